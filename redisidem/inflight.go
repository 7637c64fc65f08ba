package redisidem

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// life knows what a service has under way, so that Close can wait for it: no lease and no goroutine
// is without an owner.
type inFlight struct {
	// ctx ends when Close gave up waiting.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// ending ends when Close begins.
	ending   context.Context
	announce context.CancelFunc

	mu      sync.Mutex
	count   int
	leases  map[*Lease]struct{} // among what is counted
	closing bool
	over    bool          // ctx has ended
	idle    chan struct{} // made by end, closed when count is down to zero
}

func newInFlight() *inFlight {
	l := &inFlight{leases: make(map[*Lease]struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.ending, l.announce = context.WithCancel(context.Background())
	return l
}

// enter counts something new that a caller asks for. It is refused once the service is closing.
func (l *inFlight) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	l.count++
	return nil
}

// also counts something that belongs to what is under way already, and is therefore never refused.
// The caller must be inside enter and leave itself.
func (l *inFlight) also() {
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
}

// hold makes a lease hear of the end. The caller is inside enter.
func (l *inFlight) hold(lease *Lease) {
	l.mu.Lock()
	l.leases[lease] = struct{}{}
	over := l.over
	l.mu.Unlock()
	if over {
		lease.lose(ErrClosed)
	}
}

// release is leave for what hold was called with. The second time it does nothing.
func (l *inFlight) release(lease *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.leases[lease]; ok {
		delete(l.leases, lease)
		l.left()
	}
}

func (l *inFlight) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left()
}

// left counts one less. The caller holds mu.
func (l *inFlight) left() {
	l.count--
	if l.count == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// isClosing reports whether newcomers are refused.
func (l *inFlight) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// end refuses newcomers and waits until all is done or ctx ends.
func (l *inFlight) end(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.announce()
	if l.count == 0 {
		l.mu.Unlock()
		l.giveUp()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()

	defer l.giveUp()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveUp ends ctx and takes the leases from those who still have one.
func (l *inFlight) giveUp() {
	l.cancel(ErrClosed)
	l.mu.Lock()
	l.over = true
	leases := slices.Collect(maps.Keys(l.leases))
	l.mu.Unlock()
	for _, lease := range leases {
		lease.lose(ErrClosed)
	}
}
