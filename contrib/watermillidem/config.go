package watermillidem

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/redisidem/redisidem/redisidem"
)

// Config configures a [Consumer]. The zero value of each field means its default, and a nil *Config
// means all defaults.
type Config struct {
	// ID returns the ID of a message, which is the same in each of its deliveries. It is called
	// concurrently. Default: the message's UUID.
	ID func(msg *message.Message) string

	// DeadLetters publishes a message that cannot be handled to DeadLetterTopic, with the metadata
	// of Watermill's PoisonQueue. The message is acknowledged then. Default: none. The message is
	// not acknowledged then, and the broker's own limit of deliveries applies. The field DeadLetter
	// of package consumer's Config lists the cases.
	DeadLetters     message.Publisher
	DeadLetterTopic string

	// Reconcile finds out whether an earlier attempt has done the work of a message, before it
	// becomes a dead letter. It is for stages of [Consumer.Handler], and finds the message with
	// [Message]. With those of contrib/sqlidem, use Store.Reconcile. Default: none. The field
	// Reconcile of package consumer's Config says what it returns.
	Reconcile redisidem.StageFunc

	// MaxAttempts is how many attempts a message gets before it becomes a dead letter. Default: 5.
	MaxAttempts int

	// Wait is how long a delivery waits while another worker has the message. Default: one
	// and a half times the service's Lease. A negative value does not wait.
	Wait time.Duration

	// Extend asks the broker for more time before it delivers the message again. It is called each
	// ExtendEvery, while a message waits or is handled, in a goroutine of its own. It gets a copy
	// of the message as it was delivered, with the context of the delivery. Ack and Nack of the
	// copy do nothing. Watermill has no function for it, so this depends on the subscriber. Without
	// it, set the broker's time longer than the longest work, or accept that a message is delivered
	// while it is handled: that delivery waits for the first one's lease. Default: none.
	// ExtendEvery is 10 s by default.
	Extend      func(ctx context.Context, msg *message.Message) error
	ExtendEvery time.Duration
}

// validate reports the first field that is out of its bounds, except for those that package
// consumer checks.
func (c *Config) validate() error {
	if (c.DeadLetters == nil) != (c.DeadLetterTopic == "") {
		return invalid("Config.DeadLetterTopic", "must be set together with DeadLetters: %q", c.DeadLetterTopic)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &redisidem.InvalidError{Field: "watermillidem." + field, Reason: fmt.Sprintf(format, args...)}
}
