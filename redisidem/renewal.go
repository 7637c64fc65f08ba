package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// renewer keeps a lease alive. It renews the lease at each third of its length, and for the first
// time up to a twelfth of it earlier, because one timer serves all leases until then. Its watchdog
// cancels the stage at 0.9 of the length, counted from the moment at which the last successful
// claim, renewal or kept commit was sent. Until then no other worker can get the key, unless an
// operator unlocks it or the server's clock jumps ahead. Until the renewals begin, the renewer has
// no timer and no goroutine.
type renewer struct {
	begun    bool
	watchdog *time.Timer
	cancel   context.CancelFunc // ends the renewals, including one under way
}

// stop ends the renewer when the lease has ended or is lost. The caller holds the lease's mu.
func (r *renewer) stop() {
	if r.cancel != nil {
		r.watchdog.Stop()
		r.cancel()
	}
}

// untilRenewal returns how long after the claim the renewals begin at the latest.
func (l *Lease) untilRenewal() time.Duration {
	cfg := &l.scope.service.cfg
	pause := cfg.Lease / 3
	if cfg.MaxHold > 0 {
		pause = min(pause, cfg.MaxHold)
	}
	return pause
}

// beginRenewals begins the renewals of the lease if they have to begin before a time has passed.
func (l *Lease) beginRenewals(before time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewer.begun || l.ended || l.lost != nil || time.Since(l.sent)+before <= l.untilRenewal() {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	l.renewer = renewer{true, time.AfterFunc(time.Until(l.sent.Add(l.reliableFor())), l.watch), cancel}
	l.scope.service.inFlight.add()
	go l.renewUntilEnded(ctx)
}

// renewUntilEnded renews the lease until it ends or is lost.
func (l *Lease) renewUntilEnded(ctx context.Context) {
	s := l.scope.service
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

// renewOnce renews the lease once. It returns the pause before the next renewal, or why the lease
// is lost.
func (l *Lease) renewOnce(ctx context.Context) (time.Duration, error) {
	cfg := &l.scope.service.cfg
	hold := time.Duration(1<<63 - 1)
	if cfg.MaxHold > 0 {
		l.mu.Lock()
		hold = cfg.MaxHold - time.Since(l.since)
		l.mu.Unlock()
		if hold <= 0 {
			return 0, ErrMaxHold
		}
	}
	if !l.isReliable() {
		return 0, ErrLeaseLost
	}
	pause := cfg.Lease / 3
	if err := l.renew(ctx); errors.Is(err, ErrLeaseLost) {
		return 0, err
	} else if err != nil {
		// The lease is not lost yet: another try follows soon, and the watchdog cancels the stage
		// in time.
		pause = cfg.Lease / 10
	}
	return min(pause, hold), nil
}

// renew asks Redis for the lease's full length. It returns nil if the lease was renewed or has
// ended meanwhile, ErrLeaseLost if it is lost, and another error if it is not known.
func (l *Lease) renew(ctx context.Context) error {
	s := l.scope.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	c := protocol.Renew{ID: *l.id, Token: l.token, Fence: l.fence, Recovery: l.recovery(l.indexed())}
	if key := l.Key(); key.DeadLetter != nil {
		c.DeadLetterOf = key.Flow
	}
	r, err := s.redis.Run(bounded, s.redis.NewRenew(c))
	if err != nil {
		return err
	}
	if r.Status != protocol.StatusOK {
		if !l.holds() {
			return nil // the lease has ended meanwhile, by a commit or an abandon
		}
		if r.Canceled() {
			return ErrCanceled
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
