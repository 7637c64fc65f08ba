package sim

import (
	"sync"
	"time"
)

// limits watches the keys that completers work on at once.
type limits struct {
	world *world

	mu      sync.Mutex
	running map[string]run // by key
}

// run is a run of a stage by a completer.
type run struct {
	by    *worker
	began time.Time
}

// runs records that a callback of a worker's completer begins on a key, and returns the function
// that ends it. The leases keep a key to one of them.
func (l *limits) runs(by *worker, key string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := run{by, time.Now()}
	l.running[key] = mine
	limit := l.world.plan.limit
	if limit.MaxPerScope > 0 || limit.MaxPerFlow > 0 {
		l.world.tell(func(t *tally) { t.Bounded++ })
	}
	ofScope, ofFlow := 0, 0
	own := 0
	excused := false
	for k, r := range l.running {
		if flowOf(k) != flowOf(key) {
			continue
		}
		ofFlow++
		excused = excused || r.by.network.struckSince(r.began.Add(-lease))
		if scopeOf(k) == scopeOf(key) {
			ofScope++
			if r.by == by {
				own++
			}
		}
	}
	switch {
	case limit.MaxPerScope > 0 && own > limit.MaxPerScope:
		l.world.violation("a completer works on %d keys of a scope", own)
	case excused: // a completer that cannot ask goes on without the limits
	case limit.MaxPerScope > 0 && ofScope > limit.MaxPerScope:
		l.world.violation("completers work on %d keys of a scope", ofScope)
	case limit.MaxPerFlow > 0 && ofFlow > limit.MaxPerFlow:
		l.world.violation("completers work on %d keys of a flow", ofFlow)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.running[key] == mine {
			delete(l.running, key)
		}
	}
}
