package redisidem

import (
	"context"
	"errors"
)

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
		if held && commitErr == nil || !l.holds() { // there is nothing to give back
			return key, held, commitErr
		}
		if held && key.Revision != st.key.Revision { // stored, but too few replicas have it: no further stage begins
			_ = l.abandonUnbegun(ctx, commitErr)
			return key, false, commitErr
		}
		err = commitErr // refused before it was sent; most do not lead on from the recovery point
	}
	l.checkClock()
	if cause := l.whyEnded(); errors.Is(cause, ErrLeaseLost) && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	_ = l.abandon(ctx, err) // its error is dropped: the callback's is more important, and the lease lapses by itself
	return l.Key(), false, err
}
