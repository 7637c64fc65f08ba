// Package consumer handles each message of a queue once, with the keys of package redisidem. A
// broker delivers a message again when its consumer has died, was slow, or could not acknowledge.
//
// # Guarantees
//
// A message is finished once for each subscription: its scope is the subscription, and its key the
// message's ID. A further delivery gets the stored result and runs nothing. [Consumer.Handle]
// returns without an error only after the result is stored, or Config.DeadLetter has taken the
// message, so that the caller may acknowledge it then. A message whose consumer died is handled by
// the consumer that gets it next. It takes two round trips for a fresh message, and one for a
// duplicate.
//
// # Limits
//
// Effects outside of Redis happen at least once: a process can die after it sent a mail and before
// it stored that. Package redisidem says how to make them effectively once. A stage of
// contrib/sqlidem makes the effects of a SQL transaction once.
//
// A message is handled again if it is delivered after the service's Retention. Choose that longer
// than the broker keeps messages. This package does not order messages.
//
// # Use
//
// Make a [Consumer] for each subscription, and call Handle for each delivery. contrib/watermillidem
// does this for the brokers of Watermill: Kafka, NATS, RabbitMQ, SQS and others.
package consumer
