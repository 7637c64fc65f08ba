package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// The pauses between two polls of a leader double from the first to the last. A wake-up ends a
// pause early.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// claimResult is the result of asking for a lease.
type claimResult struct {
	lease      *Lease
	key        *Key
	err        error
	answeredAt time.Time // the earliest time at which the key's interim answer can have been made
}

// waiter is a claimant that may wait for the lease.
type waiter struct {
	*claimant
	came    time.Time
	expired <-chan time.Time // its budget is used up
	delayed bool             // it has waited: for a leader, or since an earlier ask
	span    *openSpan        // of the wait, once it has begun; a pointer, so that the claimant stays on the stack
}

// begins starts the span of the wait. Further calls do nothing.
func (w *waiter) begins(ctx context.Context) {
	if w.span.service == nil {
		_, *w.span = w.scope.startClaimSpan(ctx, &w.claim, SpanWait)
	}
}

// await asks for a lease, and asks again while the key is locked, until the scope's budget is used
// up. A claim that gets no lease leaves the work on the key as it was. It can create the record,
// and it can enter this process in the record as waiting for the key.
func (cl *claimant) await(ctx context.Context) (a claimResult) {
	sc := cl.scope
	switch {
	case ctx.Err() != nil:
		return claimResult{err: unavailable(ctx, "claim", ctx.Err())}
	case sc.wait <= 0:
		return cl.ask(ctx, tryOptions{})
	}
	budget := time.NewTimer(sc.wait)
	defer budget.Stop()
	var span openSpan
	defer func() { span.end(a.err) }()
	w := waiter{claimant: cl, came: time.Now(), expired: budget.C, span: &span}
	for {
		if a, ok := sc.joinFlight(ctx, &w); ok {
			return a
		}
		w.delayed = true
	}
}

// joinFlight joins the key's flight, and waits for its answer or asks as its leader. It reports
// false if the flight ended with an answer that this waiter must not get:
//
//   - The leader asked for it before the waiter came. The key may have been deleted in between.
//   - It is an interim answer that may have been made before the waiter came. A call that begins
//     after an interim answer continues the work.
//   - It is an interim answer, and the waiter needs the lease because a program ends it by hand.
//
// For the first two, the flight's askedAt is compared with the time at which the waiter came.
func (sc *Scope) joinFlight(ctx context.Context, w *waiter) (claimResult, bool) {
	s := sc.service
	record := w.claim.id.Record
	f := s.flights.join(record, w.claim.fingerprint())
	defer s.flights.leave(record, f)
	select {
	case <-f.lead: // precedes the waiter's own end: if the lead is free, it does not give up here
	default:
		w.delayed = true
		w.begins(ctx)
		select {
		case <-f.lead:
		case <-f.done:
		case <-w.expired:
			return claimResult{err: f.timeoutError()}, true
		case <-ctx.Done():
			return claimResult{err: errors.Join(f.timeoutError(), ctx.Err())}, true
		case <-s.inFlight.ctx.Done():
			return claimResult{err: ErrClosed}, true
		}
	}
	select {
	case <-f.done: // a new leader gets the answer of an earlier one and does not ask
		switch {
		case f.askedAt.Before(w.came):
			return claimResult{}, false
		case f.err != nil:
			return claimResult{err: f.err}, true
		case w.claim.byHand && !f.key.Finished():
			return claimResult{}, false
		}
		return claimResult{key: f.key.clone()}, true
	default:
	}
	defer func() { f.lead <- struct{}{} }()
	return sc.leadFlight(ctx, w, f), true
}

// askAndShare asks Redis. It ends the flight with an outage, a finished key or an interim answer.
// joinFlight decides which of the other waiters get it.
func (w *waiter) askAndShare(ctx context.Context, fs *flights, f *flight, channel string) claimResult {
	asked := time.Now()
	var waited time.Duration
	if w.delayed {
		waited = asked.Sub(w.came)
	}
	w.delayed = true
	record := w.claim.id.Record
	a := w.ask(ctx, tryOptions{channel, waited})
	switch {
	case errors.Is(a.err, ErrLocked):
		f.refused.Store(&a.err)
	case errors.Is(a.err, ErrUnavailable) && ctx.Err() == nil:
		// All waiters learn of an outage at once, and not one after the other.
		fs.share(record, f, asked, nil, a.err)
	case a.err != nil || a.lease != nil:
	case a.key.Finished():
		fs.share(record, f, asked, a.key, nil)
	case a.key.Answered():
		// The server's times are whole microseconds, so its age may be one microsecond too small.
		fs.share(record, f, a.answeredAt.Add(-time.Microsecond), a.key, nil)
	}
	return a
}

// leadFlight asks Redis until there is an answer or the budget is used up.
func (sc *Scope) leadFlight(ctx context.Context, w *waiter, f *flight) claimResult {
	s := sc.service
	pauses := backoff.Backoff{First: firstPoll, Max: lastPoll}
	for {
		a := w.askAndShare(ctx, s.flights, f, s.listener.listen())
		if !errors.Is(a.err, ErrLocked) {
			return a
		}
		// Half of the pause is jitter, so that the leaders of several processes do not ask in step.
		next := pauses.Jittered()
		if locked, ok := errors.AsType[*LockedError](a.err); ok {
			// A holder that died sends no wake-up, so the leader asks again when that lease has
			// ended.
			next = min(next, locked.RetryAfter+backoff.Between(time.Millisecond, time.Millisecond+firstPoll))
		}
		w.begins(ctx)
		select {
		case <-f.freed:
		case <-time.After(next):
		case <-w.expired:
			return a
		case <-ctx.Done():
			a.err = errors.Join(a.err, ctx.Err())
			return a
		case <-s.inFlight.ctx.Done():
			return claimResult{err: ErrClosed}
		}
	}
}
