package sim

import "sync"

// limits watches the keys that one completer works on at once.
type limits struct {
	world *world

	mu      sync.Mutex
	running map[string]bool
}

// runs records that a callback begins on a key, and returns the function that ends it. All keys
// are of one scope.
func (l *limits) runs(key string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running[key] = true
	limit := l.world.plan.limit
	if limit.MaxPerScope > 0 || limit.MaxPerFlow > 0 {
		l.world.tell(func(t *tally) { t.Bounded++ })
	}
	// Other processes, and for MaxPerFlow hung stages, count only while Redis answers.
	if n := len(l.running); limit.MaxPerScope > 0 && n > limit.MaxPerScope {
		l.world.violation("a completer works on %d keys of a scope", n)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.running, key)
	}
}
