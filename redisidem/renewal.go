package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// renewer keeps a lease alive: it renews at a third of the lease, and its watchdog cancels the
// stage at 0.9 of it, counted from before the last successful claim or renewal was sent, so that no
// other worker can have the key by then. Until the first third has passed it is one timer and no
// goroutine.
type renewer struct {
	first    *time.Timer
	watchdog *time.Timer
	cancel   context.CancelFunc // ends the renewals, the one under way too
}

// stop ends the renewer: the lease has ended or is lost. The caller holds the lease's mu.
func (k *renewer) stop() {
	if k.first != nil {
		k.first.Stop()
	}
	if k.cancel != nil {
		k.watchdog.Stop()
		k.cancel()
	}
}

func (l *Lease) startRenewer() {
	cfg := &l.scope.service.cfg
	pause := cfg.Lease / 3
	if cfg.MaxHold > 0 {
		pause = min(pause, cfg.MaxHold)
	}
	// The timer may fire before the field is set: renewUntilEnded waits for mu.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.renewer.first = time.AfterFunc(time.Until(l.sent.Add(pause)), l.renewUntilEnded)
	}
}

// renewUntilEnded renews the lease until it ends or is lost.
func (l *Lease) renewUntilEnded() {
	s := l.scope.service
	l.mu.Lock()
	if l.ended || l.lost != nil {
		l.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	l.renewer.cancel = cancel
	l.renewer.watchdog = time.AfterFunc(time.Until(l.sent.Add(l.good())), l.watch)
	s.inFlight.also()
	l.mu.Unlock()
	defer s.inFlight.leave()

	for {
		pause, cause := l.renewOnce(ctx)
		if cause != nil {
			l.lose(cause)
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		case <-s.inFlight.ctx.Done():
			l.lose(ErrClosed)
			return
		}
	}
}

// renewOnce renews the lease. It returns when to look again, or why the lease is lost.
func (l *Lease) renewOnce(ctx context.Context) (time.Duration, error) {
	cfg := &l.scope.service.cfg
	hold := time.Duration(1<<63 - 1)
	if cfg.MaxHold > 0 {
		hold = cfg.MaxHold - time.Since(l.began)
		if hold <= 0 {
			return 0, ErrMaxHold
		}
	}
	if !l.clockGood() {
		return 0, ErrLeaseLost
	}
	pause := cfg.Lease / 3
	if err := l.renew(ctx); errors.Is(err, ErrLeaseLost) {
		return 0, err
	} else if err != nil {
		// Silence is no loss: another try comes soon, and the watchdog sees to the end of it.
		pause = cfg.Lease / 10
	}
	return min(pause, hold), nil
}

// renew asks Redis for the lease's full length. Its error is ErrLeaseLost, or says that the answer
// is unknown.
func (l *Lease) renew(ctx context.Context) error {
	s := l.scope.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	c := protocol.Renew{ID: l.id, Token: l.token, Fence: l.fence, Recovery: l.indexed().recovery(s.cfg.Retention)}
	if key := l.Key(); key.DeadLetter != nil {
		c.DeadLetterOf = key.Flow
	}
	r, err := s.redis.Run(bounded, s.redis.NewRenew(c))
	if err != nil {
		return err
	}
	if r.Status != protocol.StatusOK {
		if !l.holds() {
			return nil // it was committed meanwhile
		}
		return ErrLeaseLost
	}
	l.mu.Lock()
	if sent.After(l.sent) {
		l.sent = sent
	}
	l.mu.Unlock()
	if s.cfg.Observer != nil {
		e := l.event(EventRenewed)
		e.Duration = time.Since(sent)
		s.observe(ctx, e)
	}
	return nil
}

// good is how long after a successful claim or renewal the holder may believe in its lease. The
// rest is for clocks that do not run alike.
func (l *Lease) good() time.Duration { return l.scope.service.cfg.Lease / 10 * 9 }

// watch is the watchdog's bite: the lease has run out, unless it was renewed meanwhile.
func (l *Lease) watch() {
	l.mu.Lock()
	left := time.Until(l.sent.Add(l.good()))
	if left > 0 && !l.ended {
		l.renewer.watchdog.Reset(left)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose(ErrLeaseLost)
}

// clockGood reports whether the holder may still believe in the lease, by the monotonic clock and
// by the wall clock: the monotonic one stands still while the machine is suspended.
func (l *Lease) clockGood() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return now.Sub(l.sent) < l.good() && now.Round(0).Sub(l.sent.Round(0)) < l.good()
}

// checkClock cancels the lease's context when its time is over: a process that was frozen may get
// here before any timer has fired.
func (l *Lease) checkClock() {
	if !l.clockGood() {
		l.lose(ErrLeaseLost)
	}
}

// lose cancels the lease's context. A commit is still worth a try afterwards: it is accepted unless
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
		// Its program may have forgotten it, which is no reason for Close to wait for ever.
		time.AfterFunc(time.Until(l.began.Add(s.cfg.MaxHold)), func() { s.inFlight.release(l) })
	}
	if s.cfg.Observer != nil {
		e := l.event(EventLeaseLost)
		e.Err = cause
		s.observe(l.ctx, e)
	}
}
