package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// The defaults of [Config].
const (
	DefaultMaxAttempts = 5
	DefaultExtendEvery = 10 * time.Second
)

// ErrPoison is for the error of work that will never succeed for this message: see
// Config.DeadLetter.
var ErrPoison = errors.New("consumer: message cannot be handled")

// Config configures a [Consumer]. The zero value of each field means its default, and a nil *Config
// means all defaults. The [redisidem.Service] configures leases and retention.
type Config struct {
	// DeadLetter keeps a message that cannot be handled, so that an operator finds it: in a topic
	// for dead letters, for example. If it returns nil, Handle returns nil, and the message may be
	// acknowledged. A message can be handed over twice, because a process can die in between. It is
	// called concurrently. Default: none. Handle returns the error then, and the broker's own limit
	// of deliveries applies.
	//
	// A message is handed over in these cases:
	//
	//   - The work has failed MaxAttempts times. Attempts that panicked, or whose process died,
	//     count. After an attempt that was cancelled, because the caller's context was or the
	//     service was closed, the work runs once more, up to 10 times beyond MaxAttempts.
	//   - The work has returned an error that matches [ErrPoison].
	//   - The ID was first used with another body ([redisidem.ErrFingerprintMismatch]), or is empty
	//     or too long ([redisidem.ErrInvalid]).
	//   - The work is done and its result cannot be stored ([redisidem.ErrNotKept]).
	//
	// The key of the message stays unfinished in the first two cases. If the message is delivered
	// again, by an operator or because the broker has not received the acknowledgement, the work
	// runs once more, with the same outbound keys, and the message is handed over again if it
	// fails. A service with DiscardFailures cannot recognize such a delivery after the last
	// attempt, nor one after a cancelled attempt: the message is handed over, and the work does not
	// run.
	DeadLetter func(ctx context.Context, m Message, cause error) error

	// Reconcile finds out whether an attempt that was not committed to Redis has done the work. It
	// is asked before a message is handed over whose attempts have not finished it, or whose work
	// has failed with ErrPoison. If the work was done, Reconcile returns the outcome, which is
	// stored, and the message is not handed over. If not, it returns [redisidem.ErrNothingDone].
	// Any other error means that it cannot be known now: Handle returns it with
	// [redisidem.ErrOutcomeUnknown]. After the last attempt, the next delivery asks again. Before
	// it, the work runs again. It is called concurrently.
	// With a stage of contrib/sqlidem, use Store.Reconcile. Default: none. The message is handed
	// over then, although its work may have been done.
	Reconcile redisidem.StageFunc

	// MaxAttempts is how many attempts in a row may end without a stored outcome before the message
	// is handed to DeadLetter. At least 1. Default: 5.
	MaxAttempts int

	// Wait is how long a delivery waits while another worker has the message. A worker that has
	// died holds its messages for the rest of its lease. Default: one and a half times the
	// service's Lease. A negative value does not wait.
	Wait time.Duration

	// ExtendEvery is the pause between two calls of Message.Extend. Choose it shorter than half of
	// the time after which the broker delivers again. At least 1 ms. Default: 10 s.
	ExtendEvery time.Duration
}

// withDefaults returns a copy in which every zero field has its default.
func (c *Config) withDefaults(service *redisidem.Config) Config {
	var out Config
	if c != nil {
		out = *c
	}
	if out.MaxAttempts == 0 {
		out.MaxAttempts = DefaultMaxAttempts
	}
	if out.Wait == 0 {
		out.Wait = service.Lease + service.Lease/2
	}
	if out.ExtendEvery == 0 {
		out.ExtendEvery = DefaultExtendEvery
	}
	return out
}

// validate reports the first field, defaults filled in, that is out of its bounds.
func (c *Config) validate() error {
	switch {
	case c.MaxAttempts < 1:
		return invalid("Config.MaxAttempts", "must be at least 1: %d", c.MaxAttempts)
	case c.ExtendEvery < time.Millisecond:
		return invalid("Config.ExtendEvery", "must be at least 1ms: %v", c.ExtendEvery)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &redisidem.InvalidError{Field: "consumer." + field, Reason: fmt.Sprintf(format, args...)}
}
