package redisidem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Close refuses new work with [ErrClosed], except what a stage under way calls with its context,
// and then waits for what is under way: leases that have not ended, and commits and give-backs that
// are tried again in the background. A lease from [Scope.Lock] that is lost is waited for no longer
// than Config.MaxHold after its claim. When ctx ends first, Close gives up on them, cancels the
// stages' contexts and returns the context's error. The client is closed only if [Open] made it. A
// second Close does the same again.
func (s *Service) Close(ctx context.Context) error {
	err := s.inFlight.end(ctx)
	if listenErr := s.listener.close(ctx); err == nil {
		err = listenErr
	}
	if s.cache != nil {
		s.cache.close()
	}
	if s.owned {
		if closeErr := s.client.Close(); err == nil && closeErr != nil && !errors.Is(closeErr, redis.ErrClosed) {
			err = closeErr
		}
	}
	return err
}

// inFlight counts the work that a service has under way, so that Close can wait for it. Every lease
// and every goroutine is counted.
type inFlight struct {
	// ctx ends when Close stops waiting.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// ending ends when Close begins.
	ending   context.Context
	announce context.CancelFunc

	mu        sync.Mutex
	count     int
	leases    map[*Lease]struct{} // each is counted
	looks     *time.Timer         // for look; nil before the first lease
	looking   bool                // looks is running
	closing   bool
	cancelled bool          // ctx has ended
	idle      chan struct{} // made by end, closed when count is down to zero
}

func newInFlight() *inFlight {
	l := &inFlight{leases: make(map[*Lease]struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.ending, l.announce = context.WithCancel(context.Background())
	return l
}

// enter counts a new operation. It returns ErrClosed once the service is closing.
func (l *inFlight) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	l.count++
	return nil
}

// add counts work that belongs to an operation under way, and is therefore never refused. The
// caller must be between enter and leave itself.
func (l *inFlight) add() {
	l.mu.Lock()
	l.count++
	l.mu.Unlock()
}

// hold registers a lease, so that its renewer begins in time and the end of ctx cancels it. The
// caller is between enter and leave; release takes the place of that leave.
func (l *inFlight) hold(lease *Lease) {
	pause := lease.untilRenewal() / looksPerPause
	l.mu.Lock()
	l.leases[lease] = struct{}{}
	over := l.cancelled
	switch {
	case l.looking || over:
	case l.looks == nil:
		l.looking, l.looks = true, time.AfterFunc(pause, func() { l.look(pause) })
	default:
		l.looking = true
		l.looks.Reset(pause)
	}
	l.mu.Unlock()
	if over {
		lease.lose(ErrClosed)
	}
	lease.beginRenewer(pause) // a claim that was answered late is due before the next look
}

// release is leave for a lease that was registered with hold. Repeated calls do nothing.
func (l *inFlight) release(lease *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.leases[lease]; ok {
		delete(l.leases, lease)
		l.subtract()
	}
}

func (l *inFlight) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subtract()
}

// subtract subtracts one. The caller holds mu.
func (l *inFlight) subtract() {
	l.count--
	if l.count == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// hung returns how many leases have a callback that was reported as hung and has not returned.
func (l *inFlight) hung() (n int) {
	l.mu.Lock()
	leases := slices.Collect(maps.Keys(l.leases))
	l.mu.Unlock()
	for _, lease := range leases {
		if lease.isHung() {
			n++
		}
	}
	return n
}

// held returns how many leases have not ended.
func (l *inFlight) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.leases)
}

// works reports whether a lease on the record is held and was not lost.
func (l *inFlight) works(record string) bool {
	l.mu.Lock()
	var found []*Lease
	for lease := range l.leases {
		if lease.id.Record == record {
			found = append(found, lease)
		}
	}
	l.mu.Unlock()
	return slices.ContainsFunc(found, func(lease *Lease) bool { return !lease.isLost() })
}

// isClosing reports whether enter refuses new operations.
func (l *inFlight) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// end refuses new operations, and waits until all others have ended or ctx ends.
func (l *inFlight) end(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.announce()
	if l.count == 0 {
		l.mu.Unlock()
		l.cancelLeases()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()

	defer l.cancelLeases()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cancelLeases ends ctx and cancels the leases that are still held.
func (l *inFlight) cancelLeases() {
	l.cancel(ErrClosed)
	l.mu.Lock()
	l.cancelled = true
	leases := slices.Collect(maps.Keys(l.leases))
	l.mu.Unlock()
	for _, lease := range leases {
		lease.lose(ErrClosed)
	}
}
