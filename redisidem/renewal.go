package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// keeper keeps a lease alive: it renews at a third of the lease, and its watchdog cancels the stage at 0.9 of it,
// counted from before the last successful claim or renewal was sent, so that no other worker can have the key by then.
// Until the first third has passed it is one timer and no goroutine.
type keeper struct {
	first    *time.Timer
	watchdog *time.Timer
	cancel   context.CancelFunc // ends the renewals, the one under way too
}

// stop ends the keeper: the lease has ended or is lost. The caller holds the lease's mu.
func (k *keeper) stop() {
	if k.first != nil {
		k.first.Stop()
	}
	if k.cancel != nil {
		k.watchdog.Stop()
		k.cancel()
	}
}

func (l *Lease) startKeeper() {
	cfg := &l.scope.service.cfg
	pause := cfg.Lease / 3
	if cfg.MaxHold > 0 {
		pause = min(pause, cfg.MaxHold)
	}
	// The timer may fire before the field is set: keep waits for mu.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.keeper.first = time.AfterFunc(time.Until(l.sent.Add(pause)), l.keep)
	}
}

// keep renews the lease until it ends or is lost.
func (l *Lease) keep() {
	s := l.scope.service
	l.mu.Lock()
	if l.ended || l.lost != nil {
		l.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	l.keeper.cancel = cancel
	l.keeper.watchdog = time.AfterFunc(time.Until(l.sent.Add(l.good())), l.watch)
	s.life.also()
	l.mu.Unlock()
	defer s.life.leave()

	for {
		pause, cause := l.tend(ctx)
		if cause != nil {
			l.lose(cause)
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.life.ctx.Done():
			timer.Stop()
			l.lose(ErrClosed)
			return
		}
	}
}

// tend renews the lease once. It returns when to look again, or why the lease is lost.
func (l *Lease) tend(ctx context.Context) (time.Duration, error) {
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
	flow := l.indexed()
	keys := l.id.keys(flow)
	if key := l.Key(); key.DeadLetter != nil {
		keys = append(keys, l.id.indexes(key.Flow)...)
	}
	c := newCall(lua.Renew, l.token, 4, keys...)
	c.add(l.fence, s.lease, s.retention)
	if flow.recoverable() {
		c.add(flow.recoverAfter(s.cfg.Retention))
	}
	r, err := s.run(bounded, c)
	if err != nil {
		return err
	}
	if r.status != statusOK {
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

// good is how long after a successful claim or renewal the holder may believe in its lease. The rest is for clocks that
// do not run alike.
func (l *Lease) good() time.Duration { return l.scope.service.cfg.Lease / 10 * 9 }

// watch is the watchdog's bite: the lease has run out, unless it was renewed meanwhile.
func (l *Lease) watch() {
	l.mu.Lock()
	left := time.Until(l.sent.Add(l.good()))
	if left > 0 && !l.ended {
		l.keeper.watchdog.Reset(left)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose(ErrLeaseLost)
}

// clockGood reports whether the holder may still believe in the lease, by the monotonic clock and by the wall clock:
// the monotonic one stands still while the machine is suspended.
func (l *Lease) clockGood() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return now.Sub(l.sent) < l.good() && now.Round(0).Sub(l.sent.Round(0)) < l.good()
}

// checkClock cancels the lease's context when its time is over: a process that was frozen may get here before any timer
// has fired.
func (l *Lease) checkClock() {
	if !l.clockGood() {
		l.lose(ErrLeaseLost)
	}
}

// lose cancels the lease's context. A commit is still worth a try afterwards: it is accepted if nobody else claimed.
func (l *Lease) lose(cause error) {
	l.mu.Lock()
	if l.lost != nil || l.ended && !errors.Is(cause, ErrFenced) {
		l.mu.Unlock()
		return
	}
	l.lost = cause
	l.keeper.stop()
	if l.detach != nil {
		l.detach(cause)
	}
	l.mu.Unlock()
	l.cancel(cause)
	s := l.scope.service
	if l.byHand && s.cfg.MaxHold > 0 {
		// Its program may have forgotten it, which is no reason for Close to wait for ever.
		time.AfterFunc(time.Until(l.began.Add(s.cfg.MaxHold)), func() { s.life.release(l) })
	}
	if s.cfg.Observer != nil {
		e := l.event(EventLeaseLost)
		e.Err = cause
		s.observe(l.ctx, e)
	}
}
