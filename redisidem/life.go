package redisidem

import (
	"context"
	"sync"
)

// life knows what a service has under way, so that Close can wait for it: no lease and no goroutine is without an owner.
type life struct {
	// ctx ends when Close gave up waiting.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	count   int
	closing bool
	idle    chan struct{} // made by end, closed when count is down to zero
}

func newLife() *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// enter counts something new that a caller asks for. It is refused once the service is closing.
func (l *life) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	l.count++
	return nil
}

// also counts something that belongs to what is under way already, and is therefore never refused. The caller must be
// inside enter and leave itself.
func (l *life) also() {
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
}

func (l *life) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if l.count == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// end refuses newcomers and waits until all is done or ctx ends.
func (l *life) end(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	if l.count == 0 {
		l.mu.Unlock()
		l.cancel(ErrClosed)
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()

	defer l.cancel(ErrClosed)
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
