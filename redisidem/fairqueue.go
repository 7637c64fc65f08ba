package redisidem

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The keys that wait in a fairQueue. Scopes share queueTarget seats, so that a key is not still
// waiting when the index shows it to other completers again. Each scope with due keys has at least
// one seat. No more keys are asked for once queueLimit of them wait.
const (
	queueTarget = 128
	queueLimit  = 1024
)

// fairQueue has the keys of one flow name that were handed out to this process. Workers take them
// from it, and the scopes take turns: a scope with many due keys does not delay the others.
type fairQueue struct {
	places   int // for keys that are worked on at once
	perScope int // how many of one scope

	mu        sync.Mutex
	changed   *sync.Cond
	scopes    map[string]*scopeQueue // by protocol.ScopePart; those with keys
	turns     []*scopeQueue          // those with waiting keys, in the order of their turns
	waiting   int
	working   int
	lent      int             // of working, those whose places other keys have, because they hang
	toLend    []*job          // of working, those that hang and still have their places
	refused   map[string]bool // scopes of which no keys are wanted until the next scan
	held      bool            // no key is taken before the scopes with due keys are known
	postponed time.Time       // no key is taken before
	last      bool            // no more keys come
	ended     bool            // no more keys are taken
}

// scopeQueue has the keys of one scope.
type scopeQueue struct {
	scope     string
	waiting   []*job
	working   int
	postponed time.Time // no key is taken before
}

func newFairQueue(cfg *CompleterConfig) *fairQueue {
	q := &fairQueue{places: cfg.Concurrency, perScope: math.MaxInt, scopes: make(map[string]*scopeQueue), refused: make(map[string]bool)}
	if cfg.MaxPerFlow > 0 {
		q.places = min(q.places, cfg.MaxPerFlow)
	}
	if cfg.MaxPerScope > 0 {
		q.perScope = cfg.MaxPerScope
	}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// put adds a key.
func (q *fairQueue) put(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	name := protocol.ScopePart(j.member)
	s := q.scopes[name]
	if s == nil {
		s = &scopeQueue{scope: name}
		q.scopes[name] = s
	}
	if len(s.waiting) == 0 {
		q.turns = append(q.turns, s)
	}
	s.waiting = append(s.waiting, j)
	q.waiting++
	q.changed.Broadcast()
}

// take returns the next key of the scope whose turn it is. It blocks until there is one, and a
// place to work on it. It reports false when there will be no more. The caller calls done with the
// key later.
func (q *fairQueue) take() (j *job, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ended && (!q.last || q.waiting > 0) {
		if turn := q.next(); turn >= 0 {
			s := q.turns[turn]
			q.turns = slices.Delete(q.turns, turn, turn+1)
			j, s.waiting = s.waiting[0], s.waiting[1:]
			if len(s.waiting) > 0 {
				q.turns = append(q.turns, s)
			}
			s.working++
			q.waiting--
			q.working++
			q.changed.Broadcast()
			return j, true
		}
		q.changed.Wait()
	}
	return nil, false
}

// next returns the first of the turns whose key may be worked on now, or -1. The caller holds mu.
func (q *fairQueue) next() int {
	now := time.Now()
	if q.held || q.working-q.lent >= q.places || now.Before(q.postponed) {
		return -1
	}
	return slices.IndexFunc(q.turns, func(s *scopeQueue) bool { return s.working < q.perScope && !now.Before(s.postponed) })
}

// done ends the work on a key that take returned.
func (q *fairQueue) done(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.scopes[protocol.ScopePart(j.member)]
	s.working--
	q.working--
	j.done = true
	q.takeBack(j)
	if s.working == 0 && len(s.waiting) == 0 {
		delete(q.scopes, s.scope)
	}
	q.changed.Broadcast()
}

// postpone puts back a key that take returned, whose scope or flow is at its limit over all
// processes. For pause, take returns no key of that scope, or with ofFlow none at all. If other
// completers can see the key again, it is left to them, and the scan asks for no more of its scope.
// The caller still calls done.
func (q *fairQueue) postpone(j *job, ofFlow bool, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.scopes[protocol.ScopePart(j.member)]
	now := time.Now()
	if ofFlow {
		q.postponed = now.Add(pause)
	} else {
		s.postponed = now.Add(pause)
	}
	time.AfterFunc(pause, q.wake)
	if now.After(j.hiddenUntil) {
		q.refused[s.scope] = true
		q.forget(now)
		return
	}
	if len(s.waiting) == 0 {
		q.turns = append(q.turns, s)
	}
	again := *j
	s.waiting = slices.Insert(s.waiting, 0, &again)
	q.waiting++
}

// forget drops the waiting keys that other completers may have. The caller holds mu.
func (q *fairQueue) forget(now time.Time) {
	for _, s := range q.turns {
		n := len(s.waiting)
		s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool { return now.After(j.hiddenUntil) })
		q.waiting -= n - len(s.waiting)
		if len(s.waiting) == 0 && s.working == 0 {
			delete(q.scopes, s.scope)
		}
	}
	q.turns = slices.DeleteFunc(q.turns, func(s *scopeQueue) bool { return len(s.waiting) == 0 })
	q.changed.Broadcast()
}

// wake lets take look again.
func (q *fairQueue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changed.Broadcast()
}

// setHung lends the place of a key whose stage hangs to another key, or takes it back when the
// stage has returned. At most q.places are lent.
func (q *fairQueue) setHung(j *job, hangs bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !hangs:
		q.takeBack(j)
	case !j.done && !j.hung:
		q.toLend = append(q.toLend, j)
		q.giveUpPlaces()
	}
}

// takeBack ends what setHung began. The caller holds mu.
func (q *fairQueue) takeBack(j *job) {
	q.toLend = slices.DeleteFunc(q.toLend, func(w *job) bool { return w == j })
	if j.hung {
		j.hung = false
		q.lent--
	}
	q.giveUpPlaces()
}

// giveUpPlaces gives up the places of the keys that hang, as far as it may. The caller holds mu.
func (q *fairQueue) giveUpPlaces() {
	for len(q.toLend) > 0 && q.lent < q.places {
		q.toLend[0].hung = true
		q.toLend = q.toLend[1:]
		q.lent++
		q.changed.Broadcast()
	}
}

// share returns how many keys of one scope may wait. With a limit it takes no more than it can soon
// work on, since other processes cannot get them meanwhile. The caller holds mu.
func (q *fairQueue) share() int {
	share := max(1, queueTarget/max(1, len(q.turns)))
	if q.perScope < queueTarget/2 {
		share = min(share, 2*q.perScope)
	}
	return share
}

// wanted returns how many keys of one scope to ask for, and the scopes that have enough. It blocks
// while the queue is full, and reports false when ctx ends: the caller must call wake then.
func (q *fairQueue) wanted(ctx context.Context) (share int, full []string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting >= queueLimit && ctx.Err() == nil {
		if q.held {
			q.held = false
			q.changed.Broadcast()
		}
		q.changed.Wait()
	}
	return q.share(), slices.AppendSeq(q.full(), maps.Keys(q.refused)), ctx.Err() == nil
}

// full returns the scopes that have their share. The caller holds mu.
func (q *fairQueue) full() (full []string) {
	for _, s := range q.turns {
		if len(s.waiting) >= q.share() && !q.refused[s.scope] {
			full = append(full, s.scope)
		}
	}
	return full
}

// hold begins a scan. It keeps the workers from taking keys until release, or until the queue is
// full, unless some wait already.
func (q *fairQueue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = q.waiting == 0
	clear(q.refused)
}

// release ends hold.
func (q *fairQueue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = false
	q.changed.Broadcast()
}

// waitForRoom blocks until it is worth it to ask for more keys. Of the scopes that now have more
// than half of their share, it waits until an eighth have at most half. After patience, one is
// enough. It reports false when ctx ends first: the caller must call wake then. It also reports
// false if it would wait for nothing: idle says that the last round brought no key.
func (q *fairQueue) waitForRoom(ctx context.Context, idle bool, patience time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	var had []string
	for _, s := range q.turns {
		if 2*len(s.waiting) > q.share() && !q.refused[s.scope] {
			had = append(had, s.scope)
		}
	}
	if len(had) == 0 {
		return !idle && ctx.Err() == nil
	}
	defer time.AfterFunc(patience, q.wake).Stop()
	for began := time.Now(); ctx.Err() == nil; q.changed.Wait() {
		low := q.low(had)
		if low > 0 && (8*low >= len(had) || time.Since(began) >= patience) {
			break
		}
	}
	return ctx.Err() == nil
}

// low returns how many of some scopes have at most half of their share. The caller holds mu.
func (q *fairQueue) low(scopes []string) (n int) {
	for _, scope := range scopes {
		if s := q.scopes[scope]; s == nil || 2*len(s.waiting) <= q.share() {
			n++
		}
	}
	return n
}

// finish lets take report false after the last key.
func (q *fairQueue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = true
	q.changed.Broadcast()
}

// end lets take report false now. The keys that wait become due again.
func (q *fairQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.changed.Broadcast()
}
