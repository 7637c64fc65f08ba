package redisidem

import (
	"context"
	"errors"
)

// runStage runs a callback under the lease and commits its outcome. With keep, it keeps the lease
// if there is a next stage, and reports whether the lease is still held. In every other case the
// lease ends.
func (l *Lease) runStage(ctx context.Context, work StageFunc, keep bool) (*Key, bool, error) {
	returned := false
	defer func() {
		// A panic or runtime.Goexit continues with its own value and stack.
		if !returned {
			_ = l.abandon(ctx, nil)
		}
	}()
	st := l.stage()
	if err := l.checkMayBegin(); err != nil {
		returned = true
		_ = l.abandonUnbegun(ctx, err)
		return st.key, false, err
	}
	outcome, err := work(l.ctx, st)
	key, held, err := l.conclude(ctx, st, outcome, err, keep)
	returned = true
	return key, held, err
}

// checkMayBegin returns why no callback may begin under the lease. Its time may be over, for
// example because the process was frozen, or its caller's context has ended. A compensation begins
// even if the context has ended, because a client must not leave a flow half undone.
func (l *Lease) checkMayBegin() error {
	l.checkClock()
	switch {
	case l.isLost():
		return ErrLeaseLost
	case l.ctx.Err() == nil, l.undoing(l.Key()):
		return nil
	case l.committedBefore():
		return ended(l.ctx) // not ErrUnavailable, which means that no callback has run
	}
	return unavailable(l.ctx, "claim", l.ctx.Err())
}

// conclude commits the callback's outcome, or gives the lease back. It can panic, because it calls
// the marshallers of the outcome's values.
func (l *Lease) conclude(ctx context.Context, st *Stage, outcome Outcome, err error, keep bool) (*Key, bool, error) {
	switch {
	case err == nil && outcome.idle && outcome.extra() != "":
		err = outcome.checkExtra()
	case err == nil && outcome.idle:
		return st.key, false, l.abandonIdle(ctx)
	case err == nil:
		key, held, commitErr := l.commit(ctx, outcome, keep, true)
		if held && commitErr == nil || !l.holds() {
			return key, held, commitErr
		}
		err = commitErr // an outcome that cannot be stored
	}
	l.checkClock()
	if cause := l.whyEnded(); errors.Is(cause, ErrLeaseLost) && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	_ = l.abandon(ctx, err) // the callback's error is more important, and the lease lapses by itself
	return l.Key(), false, err
}

// stage describes the stage at which the lease stands.
func (l *Lease) stage() *Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Stage{lease: l, key: l.key, attempt: l.attempt}
}
