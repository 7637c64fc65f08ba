package redisidem

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// flight is the shared wait of one process's callers for one key with one request. Its leader is
// the only waiter that asks Redis. The others get the leader's answer, or become the leader in
// turn.
type flight struct {
	fingerprint string
	waiters     int
	lead        chan struct{} // holds a value while the flight has no leader
	freed       chan struct{} // holds a value when the key may be free

	refused atomic.Pointer[error] // the last refusal that a leader got: the key was locked

	// The answer for all waiters that came before askedAt. That is when the leader asked for it, or
	// shortly before an interim answer was made. The answer is written before done is closed.
	done    chan struct{}
	askedAt time.Time
	key     *Key  // finished, or with an interim answer
	err     error // set if Redis does not answer
}

// timeoutError returns the error for a waiter whose budget ended before it was the leader.
func (f *flight) timeoutError() error {
	if err := f.refused.Load(); err != nil {
		return *err
	}
	return &unavailableError{op: "claim", err: errTimeout} // the leader has not got an answer yet
}

// flights holds the flights of a service.
type flights struct {
	mu sync.Mutex
	of map[string][]*flight // by record; mostly one each
}

// join adds a waiter to the flight for a record and a request, and returns the flight.
func (fs *flights) join(record, fingerprint string) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.of[record] {
		if f.fingerprint == fingerprint {
			f.waiters++
			return f
		}
	}
	f := &flight{
		fingerprint: fingerprint, waiters: 1, lead: make(chan struct{}, 1), freed: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	f.lead <- struct{}{}
	if fs.of == nil {
		fs.of = make(map[string][]*flight)
	}
	fs.of[record] = append(fs.of[record], f)
	return f
}

// leave removes a waiter. The last one removes the flight.
func (fs *flights) leave(record string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.waiters--
	if f.waiters == 0 {
		fs.remove(record, f)
	}
}

// remove takes the flight out of the flights that can be joined. The caller holds mu.
func (fs *flights) remove(record string, f *flight) {
	rest := slices.DeleteFunc(fs.of[record], func(other *flight) bool { return other == f })
	if len(rest) == 0 {
		delete(fs.of, record)
	} else {
		fs.of[record] = rest
	}
}

// share gives an answer to every waiter that came before asked. The answer is the finished key, the
// key with its interim answer, or the error that Redis does not answer. share removes the flight.
// Only the first answer counts.
func (fs *flights) share(record string, f *flight, asked time.Time, key *Key, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !f.askedAt.IsZero() {
		return
	}
	f.askedAt, f.err = asked, err
	if key != nil {
		f.key = key.clone() // the leader's caller may change its own copy
	}
	close(f.done)
	fs.remove(record, f)
}

// wake makes the leaders that wait for a record ask again, because it may be free.
func (fs *flights) wake(record string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.of[record] {
		select {
		case f.freed <- struct{}{}:
		default: // the leader is about to ask anyway
		}
	}
}
