package redisidem

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// How often a waiter looks whether the key is free: the pauses double from the first to the last.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// waiting tries to claim, and tries again while the key is locked, until the scope's budget is used up. A waiter that
// loses patience has changed nothing.
func (sc *Scope) waiting(ctx context.Context, try func() error) error {
	err := try()
	if err == nil || sc.wait <= 0 || !errors.Is(err, ErrLocked) {
		return err
	}
	deadline := time.Now().Add(sc.wait)
	for pause := firstPoll; errors.Is(err, ErrLocked); pause = min(2*pause, lastPoll) {
		left := time.Until(deadline)
		if left <= 0 {
			return err
		}
		// Half of the pause is jitter, so that waiters do not come in step.
		timer := time.NewTimer(min(pause/2+rand.N(pause/2), left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-sc.service.life.ctx.Done():
			timer.Stop()
			return ErrClosed
		}
		err = try()
	}
	return err
}
