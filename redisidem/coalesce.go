package redisidem

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// How often a waiter looks whether the key is free, besides being told: the pauses double from the first to the last.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// room is where the callers of one process wait for one key with one request. Only one at a time asks Redis: whoever has the
// turn.
type room struct {
	fingerprint string
	guests      int
	turn        chan struct{} // holds the turn while nobody has it
	freed       chan struct{} // has something when the key may be free

	refused atomic.Pointer[error] // what those with the turn were told last: the key is locked

	// What ended the waiting for all that were here when it was asked for. Written before settled is closed.
	settled chan struct{}
	asked   time.Time
	key     *Key  // it is finished, or has an interim answer, which was not there before asked
	err     error // Redis does not answer
}

// impatience is the error for those who had no turn.
func (it *room) impatience() error {
	if err := it.refused.Load(); err != nil {
		return *err
	}
	return &unavailableError{op: "claim", err: errTimeout} // nobody was told anything yet
}

// rooms are the rooms of a service.
type rooms struct {
	mu sync.Mutex
	of map[string][]*room // by record: one for each request, and so mostly one
}

// enter returns the room for a record and a request.
func (r *rooms) enter(record, fingerprint string) *room {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.of[record] {
		if it.fingerprint == fingerprint {
			it.guests++
			return it
		}
	}
	it := &room{
		fingerprint: fingerprint, guests: 1, turn: make(chan struct{}, 1), freed: make(chan struct{}, 1),
		settled: make(chan struct{}),
	}
	it.turn <- struct{}{}
	if r.of == nil {
		r.of = make(map[string][]*room)
	}
	r.of[record] = append(r.of[record], it)
	return it
}

func (r *rooms) leave(record string, it *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.guests--
	if it.guests == 0 {
		r.close(record, it)
	}
}

// close takes the room out of those that can be entered. The caller holds mu.
func (r *rooms) close(record string, it *room) {
	rest := slices.DeleteFunc(r.of[record], func(other *room) bool { return other == it })
	if len(rest) == 0 {
		delete(r.of, record)
	} else {
		r.of[record] = rest
	}
}

// settle gives everybody in the room who came before asked what there is since then: the finished
// key, the key with its interim answer, or the error that Redis does not answer. It closes the
// room. Somebody may have done so before.
func (r *rooms) settle(record string, it *room, asked time.Time, key *Key, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !it.asked.IsZero() {
		return
	}
	it.asked, it.err = asked, err
	if key != nil {
		it.key = key.clone() // the asker's own may be changed by whoever it is given to
	}
	close(it.settled)
	r.close(record, it)
}

// freed tells those who wait for a record that it may be free.
func (r *rooms) freed(record string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.of[record] {
		select {
		case it.freed <- struct{}{}:
		default: // they know already
		}
	}
}

// attempt is what asking for a lease came to.
type attempt struct {
	lease *Lease
	key   *Key
	err   error
	made  time.Time // the key's interim answer was made then or a little later
}

// waiter is a caller that asks for a lease and has some patience.
type waiter struct {
	claim    claim
	ask      func(channel string, waited time.Duration) attempt
	came     time.Time
	patience <-chan time.Time
	delayed  bool // it could not ask at once, or was told that the key is locked
}

// waiting asks for a lease, and asks again while the key is locked, until the scope's budget is used up. A waiter that
// loses patience has changed nothing.
func (sc *Scope) waiting(ctx context.Context, c claim, ask func(channel string, waited time.Duration) attempt) attempt {
	switch {
	case ctx.Err() != nil:
		return attempt{err: unavailable(ctx, "claim", ctx.Err())}
	case sc.wait <= 0:
		return ask("", 0)
	}
	patience := time.NewTimer(sc.wait)
	defer patience.Stop()
	w := waiter{claim: c, ask: ask, came: time.Now(), patience: patience.C}
	for {
		if a, ok := sc.visit(ctx, &w); ok {
			return a
		}
		w.delayed = true
	}
}

// visit waits in the key's room. It reports false when that was closed by an answer that this
// caller must not take: to a question older than the caller, since the key may have been deleted in
// between, or an interim one from before it came, or for who wants the lease and no answer.
func (sc *Scope) visit(ctx context.Context, w *waiter) (attempt, bool) {
	s := sc.service
	record := w.claim.id.Record
	it := s.rooms.enter(record, w.claim.fingerprint())
	defer s.rooms.leave(record, it)
	select {
	case <-it.turn: // whoever can ask at once does, however short its patience
	default:
		w.delayed = true
		select {
		case <-it.turn:
		case <-it.settled:
		case <-w.patience:
			return attempt{err: it.impatience()}, true
		case <-ctx.Done():
			return attempt{err: errors.Join(it.impatience(), ctx.Err())}, true
		case <-s.inFlight.ctx.Done():
			return attempt{err: ErrClosed}, true
		}
	}
	select {
	case <-it.settled: // which matters more than the turn
		switch {
		case it.asked.Before(w.came):
			return attempt{}, false
		case it.err != nil:
			return attempt{err: it.err}, true
		case w.claim.byHand && !it.key.Finished():
			return attempt{}, false
		}
		return attempt{key: it.key.clone()}, true
	default:
	}
	defer func() { it.turn <- struct{}{} }()
	return sc.insist(ctx, w, it), true
}

// consult asks, and lets everybody in the room learn from the answer.
func (w *waiter) consult(ctx context.Context, r *rooms, it *room, channel string) attempt {
	asked := time.Now()
	var waited time.Duration
	if w.delayed {
		waited = asked.Sub(w.came)
	}
	w.delayed = true
	record := w.claim.id.Record
	a := w.ask(channel, waited)
	switch {
	case errors.Is(a.err, ErrLocked):
		it.refused.Store(&a.err)
	case errors.Is(a.err, ErrUnavailable) && ctx.Err() == nil:
		// One outage is learnt of once, not by one caller after the other.
		r.settle(record, it, asked, nil, a.err)
	case a.err != nil || a.lease != nil:
	case a.key.Finished():
		r.settle(record, it, asked, a.key, nil)
	case a.key.Answered():
		r.settle(record, it, a.made.Add(-time.Microsecond), a.key, nil)
	}
	return a
}

// insist asks until there is an answer or the patience is over.
func (sc *Scope) insist(ctx context.Context, w *waiter, it *room) attempt {
	s := sc.service
	pauses := backoff.Backoff{First: firstPoll, Max: lastPoll}
	for {
		a := w.consult(ctx, &s.rooms, it, s.listener.listen())
		if !errors.Is(a.err, ErrLocked) {
			return a
		}
		// Half of the pause is jitter, so that waiters do not come in step.
		next := pauses.Jittered()
		if locked, ok := errors.AsType[*LockedError](a.err); ok {
			// A holder that is gone tells nobody: its key is looked at when its lease is over.
			next = min(next, locked.RetryAfter+backoff.Between(time.Millisecond, time.Millisecond+firstPoll))
		}
		select {
		case <-it.freed:
		case <-time.After(next):
		case <-w.patience:
			return a
		case <-ctx.Done():
			a.err = errors.Join(a.err, ctx.Err())
			return a
		case <-s.inFlight.ctx.Done():
			return attempt{err: ErrClosed}
		}
	}
}
