package redisidem

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How often a waiter looks whether the key is free, besides being told: the pauses double from the first to the last.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// room is where the callers of one process wait for one key. Only one at a time asks Redis: whoever has the turn.
type room struct {
	fingerprint string
	guests      int
	turn        chan struct{} // holds the turn while nobody has it
	freed       chan struct{} // has something when the key may be free
	settled     chan struct{} // closed when the key was found finished
	key         *Key          // as it was found then

	refused atomic.Pointer[error] // what those with the turn were told last: the key is locked
}

// impatience is the error for those who had no turn.
func (it *room) impatience() error {
	if err := it.refused.Load(); err != nil {
		return *err
	}
	return &LockedError{}
}

// rooms are the rooms of a service.
type rooms struct {
	mu sync.Mutex
	of map[string]*room // by record
}

// enter returns the room for a record. There is none for callers whose request is not the one that the others wait with:
// they have an answer coming that is not the others'.
func (r *rooms) enter(record, fingerprint string) *room {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.of[record]
	if it == nil {
		it = &room{
			fingerprint: fingerprint, turn: make(chan struct{}, 1), freed: make(chan struct{}, 1), settled: make(chan struct{}),
		}
		it.turn <- struct{}{}
		if r.of == nil {
			r.of = make(map[string]*room)
		}
		r.of[record] = it
	}
	if it.fingerprint != fingerprint {
		return nil
	}
	it.guests++
	return it
}

func (r *rooms) leave(record string, it *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.guests--
	if it.guests == 0 && r.of[record] == it {
		delete(r.of, record)
	}
}

// settle gives everybody in the room the finished key, and closes the room.
func (r *rooms) settle(record string, it *room, key *Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it.key = key
	close(it.settled)
	if r.of[record] == it {
		delete(r.of, record)
	}
}

// freed tells those who wait for a record that it may be free.
func (r *rooms) freed(record string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.of[record]; it != nil {
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
}

// waiting asks for a lease, and asks again while the key is locked, until the scope's budget is used up. A waiter that
// loses patience has changed nothing.
func (sc *Scope) waiting(ctx context.Context, c claim, ask func(channel string) attempt) attempt {
	if sc.wait <= 0 {
		return ask("")
	}
	s := sc.service
	patience := time.NewTimer(sc.wait)
	defer patience.Stop()
	var freed <-chan struct{}
	if it := s.rooms.enter(c.id.record, c.fingerprint()); it != nil {
		defer s.rooms.leave(c.id.record, it)
		select {
		case <-it.turn:
		default:
			select {
			case <-it.turn:
			case <-it.settled:
				key := *it.key
				return attempt{key: &key}
			case <-patience.C:
				return attempt{err: it.impatience()}
			case <-ctx.Done():
				return attempt{err: errors.Join(it.impatience(), ctx.Err())}
			case <-s.life.ctx.Done():
				return attempt{err: ErrClosed}
			}
		}
		defer func() { it.turn <- struct{}{} }()
		freed = it.freed
		ask = s.rooms.settling(c.id.record, it, ask)
	}
	return sc.insist(ctx, patience.C, freed, ask)
}

// settling returns ask, but so that everybody in the room learns from its answer.
func (r *rooms) settling(record string, it *room, ask func(string) attempt) func(string) attempt {
	return func(channel string) attempt {
		a := ask(channel)
		switch {
		case errors.Is(a.err, ErrLocked):
			it.refused.Store(&a.err)
		case a.err == nil && a.lease == nil && a.key.Finished():
			r.settle(record, it, a.key)
		}
		return a
	}
}

// insist asks until there is an answer or the patience is over.
func (sc *Scope) insist(ctx context.Context, patience <-chan time.Time, freed <-chan struct{}, ask func(string) attempt) attempt {
	s := sc.service
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		a := ask(s.listener.listen())
		if !errors.Is(a.err, ErrLocked) {
			return a
		}
		// Half of the pause is jitter, so that waiters do not come in step.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-freed:
		case <-timer.C:
		case <-patience:
			timer.Stop()
			return a
		case <-ctx.Done():
			timer.Stop()
			a.err = errors.Join(a.err, ctx.Err())
			return a
		case <-s.life.ctx.Done():
			timer.Stop()
			return attempt{err: ErrClosed}
		}
		timer.Stop()
	}
}
