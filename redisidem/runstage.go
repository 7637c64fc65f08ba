package redisidem

import (
	"context"
)

// runStage runs a callback under the lease and commits its outcome. With keep, and if a next
// stage follows, the lease is kept; otherwise it ends. The second result reports whether the lease
// is still held.
func (l *Lease) runStage(ctx context.Context, work StageFunc, keep bool) (*Key, bool, error) {
	returned := false
	defer l.abandonAfterPanic(ctx, &returned)
	st := l.stage()
	if err := l.checkMayBegin(); err != nil {
		returned = true
		_ = l.abandonUnbegun(ctx, err)
		return st.key, false, err
	}
	outcome, err := l.call(work, st)
	key, held, err := l.conclude(ctx, st, outcome, err, keep)
	returned = true
	return key, held, err
}

// call calls the callback, in the span of its stage.
func (l *Lease) call(work StageFunc, st *Stage) (o Outcome, err error) {
	ctx, span := l.startSpan(l.ctx, SpanStage)
	err = errPanicked // until the callback has returned
	l.working.Store(true)
	defer func() {
		l.working.Store(false)
		l.endHung()
		span.end(err)
	}()
	return work(ctx, st)
}

// checkMayBegin returns why no callback may begin under the lease, or nil. The lease's time may be
// over, for example because the process was frozen, or its caller's context has ended. A
// compensation begins even if the context has ended, because a client must not leave a flow half
// undone.
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

// stage returns the Stage for the next callback under the lease.
func (l *Lease) stage() *Stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := &l.firstStage
	if st.lease != nil {
		st = &Stage{} // the callback of the first stage may have kept its own
	}
	*st = Stage{lease: l, key: l.key, attempt: l.attempt}
	return st
}
