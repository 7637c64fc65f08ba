package redisidem

import (
	"context"
	"errors"
)

// WorkStage takes the lease on a key, runs the callback, and commits the outcome that the callback
// returns. It takes two round trips.
//
// The record must be as the caller has read it. If it has advanced, was deleted and made again, or
// is finished, the callback does not run and the current key is returned. A loop over recovery
// points then simply continues. The returned key is never nil; with an error it is the key as last
// read.
//
// The callback's own error is returned as it is, joined with the cause if the lease was lost.
// Otherwise the error matches one of these:
//
//   - [ErrLocked]: another worker has the lease, for longer than [Scope.Wait].
//   - [ErrNotFound]: the record does not exist.
//   - [ErrFingerprintMismatch]: the value now belongs to another request.
//   - [ErrLeaseLost]: the lease was lost before the callback began.
//   - [ErrFenced]: another worker claimed the key during the callback.
//   - [ErrOutcomeUnknown]: it is unknown whether the outcome was stored.
//   - [ErrNoProgress]: the outcome stays at the same recovery point.
//   - [ErrNotKept]: the outcome cannot be stored. Each later use of the key returns it as well.
//   - [ErrNotDurable]: too few replicas acknowledged. If the callback ran, the outcome is stored.
//   - [ErrNested]: the call is inside a stage of the same key.
//   - [ErrDamaged], [ErrInvalid] and [ErrUnavailable].
func (sc *Scope) WorkStage(ctx context.Context, key *Key, work StageFunc) (*Key, error) {
	if key == nil {
		return &Key{}, invalid("key", "must not be nil")
	}
	if work == nil {
		return key, invalid("work", "must not be nil")
	}
	id, err := sc.own(key)
	if err != nil {
		return key, err
	}
	if !key.unchanged() || key.id.Record != id.Record {
		// The caller made or changed this key, so the record may differ.
		fresh, err := sc.service.retrieve(ctx, id)
		if err != nil {
			return key, err
		}
		switch {
		case key.fingerprint != "" && key.fingerprint != fresh.fingerprint:
			return key, ErrFingerprintMismatch
		case !fresh.isStill(key):
			return fresh, nil
		}
		key = fresh
	}
	if key.Finished() {
		return key.result()
	}
	return sc.work(ctx, key, claim{id: id, seen: key}, work)
}

// work claims the key, runs the callback under the lease, and commits. Without a fresher key it
// returns seen.
func (sc *Scope) work(ctx context.Context, seen *Key, c claim, work StageFunc) (*Key, error) {
	lease, fresh, err := sc.claim(ctx, c)
	switch {
	case err != nil:
		if fresh != nil {
			seen = fresh
		}
		return seen, err
	case lease == nil:
		return fresh.result()
	}
	key, _, err := lease.run(ctx, work, false)
	return key, err
}

// run runs a callback under the lease and commits its outcome. With keep, it keeps the lease if
// there is a next stage, and reports whether the lease is still held. In every other case the lease
// ends.
func (l *Lease) run(ctx context.Context, work StageFunc, keep bool) (*Key, bool, error) {
	returned := false
	defer func() {
		// A panic or runtime.Goexit continues with its own value and stack.
		if !returned {
			_ = l.giveUp(ctx, nil)
		}
	}()
	st := l.stage()
	if err := l.unfit(); err != nil {
		returned = true
		_ = l.putBack(ctx, err)
		return st.key, false, err
	}
	outcome, err := work(l.ctx, st)
	key, held, err := l.conclude(ctx, st, outcome, err, keep)
	returned = true
	return key, held, err
}

// unfit returns why no callback may begin under the lease. Its time may be over, for example
// because the process was frozen, or its caller's context has ended. A compensation begins even if
// the context has ended, because a client must not leave a flow half undone.
func (l *Lease) unfit() error {
	l.checkClock()
	switch {
	case l.isLost():
		return ErrLeaseLost
	case l.ctx.Err() == nil, l.undoing(l.Key()):
		return nil
	case l.wasKept():
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
		return st.key, false, l.putBackIdle(ctx)
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
	_ = l.giveUp(ctx, err) // the callback's error is more important, and the lease lapses by itself
	return l.Key(), false, err
}
