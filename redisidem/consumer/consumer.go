package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// ErrUnfinished is returned by [Consumer.Handle] if the work has stored an outcome that does not
// finish the message, or has returned [redisidem.NothingDone]. Have the broker deliver the message
// again after a pause: at once, it would be delivered over and over. This is no failed attempt, so
// MaxAttempts does not end it. Work that waits in this way should return [ErrPoison] when the
// message has become too old, by Stage.Key().CreatedAt.
var ErrUnfinished = errors.New("consumer: message is not finished")

// Consumer handles the messages of one subscription. Make one with [New]. It is safe for concurrent
// use, and several processes may have one for the same subscription.
type Consumer struct {
	scope    *redisidem.Scope
	name     string
	cfg      Config
	maxBytes int // of an ID
}

// New returns a Consumer for a subscription. The name is the scope of its messages: a message that
// goes to two subscriptions is handled once for each. A nil cfg means all defaults. New sends
// nothing to Redis.
//
// A field that is out of its bounds is a [*redisidem.InvalidError].
func New(service *redisidem.Service, subscription string, cfg *Config) (*Consumer, error) {
	if service == nil {
		return nil, invalid("service", "must not be nil")
	}
	core := service.Config()
	c := &Consumer{name: subscription, cfg: cfg.withDefaults(&core), maxBytes: core.MaxKeyBytes}
	if subscription == "" || len(subscription) > c.maxBytes {
		return nil, invalid("subscription", "must have 1 to %d bytes: %d", c.maxBytes, len(subscription))
	}
	if err := c.cfg.validate(); err != nil {
		return nil, err
	}
	c.scope = service.Scope(subscription).Wait(c.cfg.Wait)
	return c, nil
}

// Handle runs the work of a message, or returns the key with the stored result if that was done
// before. The message may be acknowledged if the error is nil, and must not be if it is not: the
// broker then delivers it again.
//
// It blocks while the work runs, and for up to Config.Wait while another worker has the message.
// The work gets the number of its attempt, a fence and outbound keys, and a context that ends when
// the lease is lost. After an error of the work only the failed attempt is stored. An outcome that
// does not finish the key is stored, and Handle returns [ErrUnfinished]: the next delivery
// continues from there.
//
// The returned key is never nil. Without an error it is finished, unless the message was handed to
// Config.DeadLetter. The errors are ErrUnfinished, those of [redisidem.Scope.Do], and those of
// Config.DeadLetter, joined with the reason for the call.
func (c *Consumer) Handle(ctx context.Context, m Message, work redisidem.StageFunc) (*redisidem.Key, error) {
	if work == nil {
		return &redisidem.Key{}, invalid("work", "must not be nil")
	}
	if m.ID == "" || len(m.ID) > c.maxBytes {
		err := invalid("Message.ID", "must have 1 to %d bytes: %d", c.maxBytes, len(m.ID))
		return &redisidem.Key{Scope: c.name, Value: m.ID}, c.handOver(ctx, m, err)
	}
	stop := m.extend(ctx, c.cfg.ExtendEvery)
	defer stop()
	body := m.Body
	if body == nil {
		body = []byte{}
	}
	began := false
	key, err := c.scope.Do(ctx, m.ID, redisidem.Request{Path: c.name, Fingerprint: body},
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			began = true
			defer context.AfterFunc(ctx, stop)()
			return c.attempt(ctx, m, st, work)
		})
	_, isDeadLetter := errors.AsType[*deadLetterError](err)
	switch {
	case isDeadLetter:
		return key, nil
	case !began && errors.Is(err, redisidem.ErrFingerprintMismatch), key.Finished() && errors.Is(err, redisidem.ErrNotKept):
		return key, c.handOver(ctx, m, err) // the same errors of another key, which the work has used, are returned below
	case err == nil && !key.Finished():
		return key, ErrUnfinished
	}
	return key, err
}

// attempt runs the work, or gives the message up if it cannot be handled.
func (c *Consumer) attempt(ctx context.Context, m Message, st *redisidem.Stage, work redisidem.StageFunc) (redisidem.Outcome, error) {
	if c.cfg.DeadLetter == nil {
		return work(ctx, st)
	}
	if st.Attempt() > c.cfg.MaxAttempts && !c.mayRunOnceMore(st) {
		return c.giveUp(ctx, m, st, exhausted(st))
	}
	o, err := work(ctx, st)
	switch {
	case err == nil:
		return o, nil
	case isShutdown(ctx):
		return o, &shutdownError{err}
	case ctx.Err() != nil || st.Attempt() < c.cfg.MaxAttempts && !errors.Is(err, ErrPoison):
		return o, err
	}
	return c.giveUp(ctx, m, st, err)
}

// shutDowns is how many attempts beyond MaxAttempts a message gets because of shutdowns.
const shutDowns = 10

// mayRunOnceMore reports whether the attempt before this one does not speak against the message. It
// has ended with the message as a dead letter, which was then delivered again, by an operator or
// because the acknowledgement was lost. Or a shutdown has ended it, unless that has happened so
// often that the work rather takes longer than its context lasts.
func (c *Consumer) mayRunOnceMore(st *redisidem.Stage) bool {
	last := lastFailure(st)
	return last != nil && (strings.HasPrefix(last.Text, handedOver) || strings.HasPrefix(last.Text, shutDown) && st.Attempt() <= c.cfg.MaxAttempts+shutDowns)
}

// isShutdown reports whether the context of a stage was cancelled, by the caller or by
// [redisidem.Service.Close]. A deadline is a limit that the work has exceeded, and a lease is lost
// by work that stalls.
func isShutdown(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), redisidem.ErrLeaseLost)
}

// lastFailure returns how the attempt before this one has failed. It returns nil if the process of
// that attempt died.
func lastFailure(st *redisidem.Stage) *redisidem.Failure {
	last := st.Key().LastFailure
	if last == nil || last.Attempt != st.Attempt()-1 || last.Revision != st.Key().Revision {
		return nil
	}
	return last
}

// exhausted returns the cause for a message whose attempts have ended without an answer: because
// the work panicked, its process died or its lease was lost.
func exhausted(st *redisidem.Stage) error {
	cause := fmt.Errorf("consumer: %d attempts have not finished the message", st.Attempt()-1)
	if last := lastFailure(st); last != nil {
		cause = fmt.Errorf("%w: %s", cause, last.Text)
	}
	return cause
}

// giveUp hands a message over and returns a [*deadLetterError], or returns the outcome of the
// attempt that has done the work.
func (c *Consumer) giveUp(ctx context.Context, m Message, st *redisidem.Stage, cause error) (redisidem.Outcome, error) {
	if c.cfg.Reconcile != nil {
		switch o, err := c.cfg.Reconcile(ctx, st); {
		case err == nil:
			return o, nil
		case !errors.Is(err, redisidem.ErrNothingDone):
			return redisidem.Outcome{}, fmt.Errorf("%w: %w, and Reconcile after it: %w", redisidem.ErrOutcomeUnknown, cause, err)
		}
	}
	if err := c.handOver(ctx, m, cause); err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Outcome{}, &deadLetterError{cause}
}

// handOver hands a message to Config.DeadLetter. Without one it returns the cause.
func (c *Consumer) handOver(ctx context.Context, m Message, cause error) error {
	if c.cfg.DeadLetter == nil {
		return cause
	}
	if err := c.cfg.DeadLetter(ctx, m, cause); err != nil {
		return errors.Join(cause, fmt.Errorf("consumer: dead letter: %w", err))
	}
	return nil
}

// These begin the texts of a deadLetterError and of a shutdownError, which later attempts read.
const (
	handedOver = "consumer: dead letter: "
	shutDown   = "consumer: shutdown: "
)

// deadLetterError ends the attempt of a message that was handed over. It is stored as the key's
// last failure.
type deadLetterError struct{ cause error }

func (e *deadLetterError) Error() string { return handedOver + e.cause.Error() }
func (e *deadLetterError) Unwrap() error { return e.cause }

// shutdownError is the error of work that a shutdown has ended.
type shutdownError struct{ cause error }

func (e *shutdownError) Error() string { return shutDown + e.cause.Error() }
func (e *shutdownError) Unwrap() error { return e.cause }
