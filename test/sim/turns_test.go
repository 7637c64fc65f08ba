package sim

import (
	"bytes"
	"sync"
	"time"
)

// turns watches the order in which one completer comes to the keys that Redis has handed out to it
// in a sweep. In a Run a pause may begin behind that.
type turns struct {
	worker *worker

	mu      sync.Mutex
	since   time.Time           // when the sweep began; zero outside of a sweep
	steps   int                 // the number of keys handed out and of turns taken
	waiting map[string]int      // the step at which a key was handed out that has had no turn
	last    map[[2]string]int   // the step of the last turn of a flow and scope
	refused bool                // a limit was reached, and its keys wait for other completers
	hung    map[string]hungTurn // by value, the runs that hang
	lent    map[string]bool     // the flows of which a run has hung
}

// hungTurn is the state of the sweep when a run was reported as hung.
type hungTurn struct {
	flow  string
	at    time.Time
	steps int
	first bool // no other run of the flow has hung in this sweep
}

// begin begins a sweep.
func (t *turns) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since, t.refused = time.Now(), false
	t.waiting, t.last, t.hung = make(map[string]int), make(map[[2]string]int), make(map[string]hungTurn)
	t.lent = make(map[string]bool)
}

// end ends the sweep. Keys that still wait become due again.
func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Time{}
}

// reads records the reply to a request of the completer.
func (t *turns) reads(name string, reply []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return
	}
	switch {
	case name == "due":
		for _, key := range t.worker.world.keys {
			if _, ok := t.waiting[key]; !ok && bytes.Contains(reply, []byte(t.worker.world.ids[key])) {
				t.steps++
				t.waiting[key] = t.steps
			}
		}
	case name == "completerlimit" && bytes.Contains(reply, []byte("FULL ")):
		t.refused = true
		t.worker.world.tell(func(t *tally) { t.Refused++ })
	}
}

// claims records that the completer claims a key. If one place is for all keys of the flow, it must
// be the turn of the key's scope.
func (t *turns) claims(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.waiting[key]; !ok || t.since.IsZero() {
		return // the turn has begun with an earlier claim
	}
	delete(t.waiting, key)
	w := t.worker.world
	mine := [2]string{flowOf(key), scopeOf(key)}
	before, again := t.last[mine]
	t.steps++
	t.last[mine] = t.steps
	if w.plan.limit.Concurrency > 1 || t.refused || t.worker.network.struckSince(t.since) {
		return
	}
	for other, handed := range t.waiting {
		its := [2]string{flowOf(other), scopeOf(other)}
		if its[0] != mine[0] || its == mine {
			continue
		}
		w.tell(func(t *tally) { t.Turns++ })
		if again && handed < before && t.last[its] < before {
			w.violation("a completer comes to %s, and the scope of %s has waited for two turns", key, other)
		}
	}
}

// hangs records that a run on a key was reported as hung.
func (t *turns) hangs(value, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return
	}
	flow := flowOf(key)
	t.hung[value] = hungTurn{flow, time.Now(), t.steps, !t.lent[flow]}
	t.lent[flow] = true
}

// returns records that a run has returned. If it was the first that hung, another key has had its
// place.
func (t *turns) returns(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.hung[value]
	if !ok {
		return
	}
	delete(t.hung, value)
	w := t.worker.world
	limit := w.plan.limit
	if limit.MaxPerScope > 0 || limit.MaxPerFlow > 0 || !h.first || time.Since(h.at) < 100*time.Millisecond {
		return
	}
	for place, step := range t.last {
		if place[0] == h.flow && step > h.steps {
			w.tell(func(t *tally) { t.Lent++ })
			return
		}
	}
	for key, handed := range t.waiting {
		if flowOf(key) == h.flow && handed <= h.steps && !t.worker.network.struckSince(t.since) {
			w.violation("%s has waited behind the hung stage of %s", key, value)
		}
	}
}
