package redisidem

import (
	"errors"
	"time"
)

// reliableFor returns how long after a successful claim or renewal the holder may rely on its
// lease. The rest allows for clocks that run differently.
func (l *Lease) reliableFor() time.Duration { return l.scope.service.cfg.Lease / 10 * 9 }

// watch ends the lease when its time is over, unless it was renewed meanwhile.
func (l *Lease) watch() {
	l.mu.Lock()
	left := time.Until(l.sent.Add(l.reliableFor()))
	if left > 0 && !l.ended {
		l.renewer.watchdog.Reset(left)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose(ErrLeaseLost)
}

// isReliable reports whether the holder may still rely on the lease, by the monotonic clock and by
// the wall clock. The monotonic clock stops while the machine is suspended.
func (l *Lease) isReliable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return now.Sub(l.sent) < l.reliableFor() && now.Round(0).Sub(l.sent.Round(0)) < l.reliableFor()
}

// checkClock cancels the lease's context if its time is over. A process that was frozen may get
// here before a timer fires.
func (l *Lease) checkClock() {
	if !l.isReliable() {
		l.lose(ErrLeaseLost)
	}
}

// lose cancels the lease's context. A commit may still succeed afterwards: it is accepted unless
// another worker has claimed the key.
func (l *Lease) lose(cause error) {
	l.mu.Lock()
	if l.lost != nil || l.ended && !errors.Is(cause, ErrFenced) {
		l.mu.Unlock()
		return
	}
	l.lost = cause
	l.renewer.stop()
	if l.detach != nil {
		l.detach(cause)
	}
	l.mu.Unlock()
	l.cancel(cause)
	s := l.scope.service
	if l.byHand && s.cfg.MaxHold > 0 {
		// The program may have forgotten its lease, and Close must not wait for it without end.
		time.AfterFunc(time.Until(l.began.Add(s.cfg.MaxHold)), func() { s.inFlight.release(l) })
	}
	if s.cfg.Observer != nil {
		e := l.event(EventLeaseLost)
		e.Err = cause
		s.observe(l.ctx, e)
	}
	if l.working.Load() {
		time.AfterFunc(s.cfg.Lease, func() { l.reportHung(cause) })
	}
}
