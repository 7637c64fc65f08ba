// Package watermillidem handles each message of a Watermill router once, with package consumer of
// redisidem. Watermill connects it to Kafka, NATS, RabbitMQ, SQS and other brokers.
//
//	consumer, err := watermillidem.New(svc, "billing", nil)
//	router.AddMiddleware(consumer.Middleware)
//
// # Promise
//
// The messages that a handler returns are stored before the router publishes them, and before it
// acknowledges the message that it has handled. A further delivery publishes the same messages,
// with the same UUIDs, and the handler does not run. So each message leads to one set of messages,
// published at least once, and a consumer of them that uses this package handles each once.
//
// Other effects of a handler happen at least once, because a process can die in between. For a SQL
// transaction use [Consumer.Handler] with a stage of contrib/sqlidem. Package consumer has more
// about limits.
//
// # Scope and key
//
// The scope is the consumer group and the name of the handler, with a slash between them: a message
// that goes to two handlers is handled once by each. The key is the UUID of the message, which the
// producer must choose: the same for a message that it sends again.
//
// # Acknowledgements
//
// The subscriber must leave a message unacknowledged until its handler has returned. With NATS
// JetStream, give nats.ManualAck() to the subscriber: without it nats.go acknowledges a message
// when its handler takes longer than AckWaitTimeout, and the message is lost if the handler fails.
//
// # Order of middleware
//
// Add it before middleware.Retry and middleware.Timeout, so that these run inside: tries under one
// lease are one attempt. Add middleware.Recoverer before it, because a panic passes through. It
// takes the place of middleware.PoisonQueue and middleware.Deduplicator. Do not use
// middleware.InstantAck, which acknowledges a message before it is handled.
package watermillidem
