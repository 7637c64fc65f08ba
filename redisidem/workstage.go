package redisidem

import (
	"context"
	"errors"
)

// WorkStage takes the lease on a key as the caller sees it, runs the callback, and commits what it
// returns. Two round trips.
//
// If the record has advanced, was made again or is finished, the callback does not run and the
// current key is returned: a loop over recovery points just continues. The key returned is never
// nil; next to an error it is the key as last read.
//
// The callback's own error is returned as it is, joined with the cause if the lease was lost.
// Otherwise the error matches [ErrLocked] when another worker has the lease (for longer than
// [Scope.Wait]); [ErrNotFound]; [ErrFingerprintMismatch] when the value now stands for another
// request; [ErrFenced] when another worker claimed the key during the callback; [ErrLeaseLost] when
// the lease was gone before the callback could start; [ErrOutcomeUnknown]; [ErrNoProgress];
// [ErrNotKept] for an outcome that cannot be stored, now and whenever the key is used again;
// [ErrNested]; [ErrNotDurable], after the callback only when the result is stored; [ErrDamaged];
// [ErrUnavailable].
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
		// Not as a call of this library's made it, so it may be other than the record is.
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

// work claims, runs the callback under the lease and commits. seen is the key to return when there
// is no better one.
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

// run runs a callback under the lease, and commits what it returns. With keep, the lease is kept
// for the next stage if the outcome has one, which run reports. It ends however else the callback
// ends.
func (l *Lease) run(ctx context.Context, work StageFunc, keep bool) (*Key, bool, error) {
	returned := false
	defer func() {
		// A panic or runtime.Goexit is not held up: it goes on with its own value and stack.
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

// unfit returns why no callback may begin under the lease: its time is over, as when the process
// was frozen since it claimed, or its caller has left. What undoes a flow begins nevertheless: no
// client may leave it undone.
func (l *Lease) unfit() error {
	l.checkClock()
	switch {
	case l.isLost():
		return ErrLeaseLost
	case l.ctx.Err() == nil, l.undoing(l.Key()):
		return nil
	case l.wasKept():
		return ended(l.ctx) // it is not ErrUnavailable, which says that no callback has run
	}
	return unavailable(l.ctx, "claim", l.ctx.Err())
}

// conclude commits what a callback returned, or gives the lease back. What it calls can panic, too:
// how the outcome's values are marshalled is up to them.
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
	_ = l.giveUp(ctx, err) // the callback's error matters more; the lease lapses by itself
	return l.Key(), false, err
}
