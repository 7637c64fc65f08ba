package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

func TestVisibilityIsExtendedWhileTheMessageIsHandled(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var extensions atomic.Int64
		m := consumer.Message{ID: "m", Extend: func(context.Context) error {
			extensions.Add(1)
			return errors.New("the broker is away") // which does not matter
		}}
		c := newConsumer(t, s.service(redisidem.Config{}), &consumer.Config{ExtendEvery: 4 * time.Second})
		s.crash("m") // so that it waits for 10 s
		_, err := c.Handle(t.Context(), m, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
			return redisidem.Outcome{}, ctx.Err()
		})
		if n := extensions.Load(); err != nil || n != 17 {
			t.Errorf("%v after %d extensions in 70 s", err, n)
		}
		time.Sleep(time.Minute)
		if n := extensions.Load(); n != 17 {
			t.Errorf("%d extensions after the end", n)
		}
	})
}

func TestVisibilityIsNotExtendedWithoutALease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *store) {
		var late atomic.Bool
		var lost atomic.Bool
		m := consumer.Message{ID: "m", Extend: func(context.Context) error {
			late.Store(late.Load() || lost.Load())
			return nil
		}}
		c := newConsumer(t, s.service(redisidem.Config{MaxHold: 30 * time.Second}), &consumer.Config{ExtendEvery: time.Second})
		_, err := c.Handle(t.Context(), m, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			<-ctx.Done()
			time.Sleep(time.Millisecond) // a bubble's: the extensions have ended when it passes
			lost.Store(true)
			time.Sleep(time.Minute) // work that does not look at its context
			return redisidem.Outcome{}, ctx.Err()
		})
		if !errors.Is(err, redisidem.ErrLeaseLost) || late.Load() {
			t.Errorf("%v, extended after the lease: %t", err, late.Load())
		}
	})
}
