package watermillidem

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

// Consumer handles each message of a router's handlers once. Make one with [New] for each consumer
// group. It is safe for concurrent use.
type Consumer struct {
	service   *redisidem.Service
	group     string
	cfg       Config
	core      consumer.Config
	maxBytes  int      // of the messages that a handler returns, as they are stored
	consumers sync.Map // handler name: *consumer.Consumer
}

// New returns a Consumer that keeps its keys in a service. Programs with the same group share their
// messages: each is handled by one of them. A nil cfg means all defaults. New sends nothing to
// Redis.
//
// A field that is out of its bounds is a [*redisidem.InvalidError].
func New(service *redisidem.Service, group string, cfg *Config) (*Consumer, error) {
	c := &Consumer{service: service, group: group}
	if cfg != nil {
		c.cfg = *cfg
	}
	if c.cfg.ID == nil {
		c.cfg.ID = func(msg *message.Message) string { return msg.UUID }
	}
	if err := c.cfg.validate(); err != nil {
		return nil, err
	}
	c.core = consumer.Config{Reconcile: c.cfg.Reconcile, MaxAttempts: c.cfg.MaxAttempts, Wait: c.cfg.Wait, ExtendEvery: c.cfg.ExtendEvery}
	if c.cfg.DeadLetters != nil {
		publish, err := deadLetter(c.cfg.DeadLetters, c.cfg.DeadLetterTopic)
		if err != nil {
			return nil, err
		}
		c.core.DeadLetter = publish
	}
	if group == "" || strings.Contains(group, "/") {
		return nil, invalid("group", "must not be empty or have a slash: %q", group)
	}
	if _, err := consumer.New(service, group, &c.core); err != nil { // now, and not with the first message
		return nil, err
	}
	c.maxBytes = service.Config().MaxValueBytes
	return c, nil
}

// Middleware is a [message.HandlerMiddleware]. The handler's messages are stored, and a further
// delivery returns them again. It returns the handler's error. See [consumer.Consumer.Handle] for
// its other errors and for what it blocks on.
//
// The handler finds the [Stage] of its attempt in the context of the message. That context ends
// when the lease is lost.
func (c *Consumer) Middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (produced []*message.Message, err error) {
		finished := false // by this call of the handler
		key, err := c.handle(msg, func(_ context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			var err error
			if produced, err = next(msg); err != nil {
				return redisidem.Outcome{}, err
			}
			r := encode(produced)
			// A result that is too large would end the key without its messages, for ever.
			if len(r.Body) > c.maxBytes {
				return redisidem.Outcome{}, fmt.Errorf(
					"%w: its %d messages have %d bytes, and at most %d can be stored", consumer.ErrPoison, len(produced), len(r.Body), c.maxBytes,
				)
			}
			finished = true
			return redisidem.Finish(r), nil
		})
		switch {
		case err != nil || !key.Finished():
			return nil, err
		case !finished || key.Replayed():
			produced, err = decode(key.Response)
			if err != nil && c.core.DeadLetter != nil {
				ctx := context.WithValue(msg.Context(), messageContext{}, msg)
				return nil, c.core.DeadLetter(ctx, consumer.Message{ID: c.cfg.ID(msg), Body: msg.Payload}, err)
			}
			return produced, err
		}
		return produced, nil
	}
}

// Handler returns a handler that runs a stage for each message, such as one of contrib/sqlidem. The
// stage finds the message with [Message]. It must finish the key: otherwise the handler returns
// [consumer.ErrUnfinished], and the message is delivered again, at once by some subscribers.
func (c *Consumer) Handler(work redisidem.StageFunc) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		_, err := c.handle(msg, work)
		return err
	}
}

// handle runs the work of a message. While it runs, the message has the context of the work.
func (c *Consumer) handle(msg *message.Message, work redisidem.StageFunc) (*redisidem.Key, error) {
	outer := msg.Context()
	handler, err := c.of(message.HandlerNameFromCtx(outer))
	if err != nil {
		return &redisidem.Key{}, err
	}
	m := consumer.Message{ID: c.cfg.ID(msg), Body: msg.Payload}
	if c.cfg.Extend != nil {
		delivered := msg.Copy() // handlers change their message meanwhile
		delivered.SetContext(outer)
		m.Extend = func(ctx context.Context) error { return c.cfg.Extend(ctx, delivered) }
	}
	return handler.Handle(context.WithValue(outer, messageContext{}, msg), m,
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ctx = context.WithValue(ctx, stageContext{}, st)
			msg.SetContext(ctx)
			defer msg.SetContext(outer)
			return work(ctx, st)
		})
}

// of returns the consumer of a handler. A router has few of them.
func (c *Consumer) of(handler string) (*consumer.Consumer, error) {
	if handler == "" {
		return nil, invalid("message", "must come from a handler of a router, whose name is a part of the scope")
	}
	if known, ok := c.consumers.Load(handler); ok {
		return known.(*consumer.Consumer), nil //nolint:forcetypeassert // nothing else is stored
	}
	fresh, err := consumer.New(c.service, c.group+"/"+handler, &c.core)
	if err != nil {
		return nil, err
	}
	c.consumers.Store(handler, fresh)
	return fresh, nil
}

type (
	messageContext struct{}
	stageContext   struct{}
)

// Message returns the message that is being handled. The argument is the context of a stage that
// [Consumer.Handler] runs. It returns nil for any other context.
func Message(ctx context.Context) *message.Message {
	msg, _ := ctx.Value(messageContext{}).(*message.Message)
	return msg
}

// Stage returns the stage of the attempt: its number, its fence and its outbound keys. The argument
// is the context of a message in a handler. It returns nil for any other context.
func Stage(ctx context.Context) *redisidem.Stage {
	st, _ := ctx.Value(stageContext{}).(*redisidem.Stage)
	return st
}
