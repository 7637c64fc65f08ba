package redisidem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// renewer keeps a lease alive. It renews the lease at each third of its length. Its watchdog
// cancels the stage at 0.9 of the length, counted from the moment at which the last successful
// claim, renewal or kept commit was sent. Until then no other worker can get the key, unless an
// operator unlocks it or the server's clock jumps ahead. The zero renewer is one that has not begun
// yet: see [inFlight.look].
type renewer struct {
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

// untilRenewal returns how long after the claim the first renewal is.
func (l *Lease) untilRenewal() time.Duration {
	cfg := &l.scope.service.cfg
	pause := cfg.Lease / 3
	if cfg.MaxHold > 0 {
		pause = min(pause, cfg.MaxHold)
	}
	return pause
}

// looksPerPause is how many looks are made at the leases in the time from a claim to its first
// renewal. One timer for all leases costs less than one for each, because most leases end before
// that.
const looksPerPause = 4

// look begins the renewer of each lease whose first renewal is before the next look.
func (l *inFlight) look(pause time.Duration) {
	l.mu.Lock()
	leases := slices.Collect(maps.Keys(l.leases))
	l.looking = len(leases) > 0 && !l.cancelled
	if l.looking {
		l.looks.Reset(pause)
	}
	l.mu.Unlock()
	for _, lease := range leases {
		lease.beginRenewer(pause)
	}
}

// beginRenewer begins the renewer if the first renewal is before this time has passed.
func (l *Lease) beginRenewer(before time.Duration) {
	first := time.Until(l.began.Add(l.untilRenewal()))
	if first >= before {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewer.cancel != nil || l.ended || l.lost != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	l.renewer = renewer{time.AfterFunc(time.Until(l.sent.Add(l.reliableFor())), l.watch), cancel}
	l.scope.service.inFlight.add()
	go l.renewUntilEnded(ctx, first)
}

// renewUntilEnded renews the lease until it ends or is lost, for the first time after a pause.
func (l *Lease) renewUntilEnded(ctx context.Context, pause time.Duration) {
	s := l.scope.service
	defer s.inFlight.leave()
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		case <-s.inFlight.ctx.Done():
			l.lose(ErrClosed)
			return
		}
		var cause error
		if pause, cause = l.renewOnce(ctx); cause != nil {
			l.lose(cause)
			return
		}
	}
}

// renewOnce renews the lease once. It returns the pause before the next renewal, or why the lease
// is lost.
func (l *Lease) renewOnce(ctx context.Context) (time.Duration, error) {
	cfg := &l.scope.service.cfg
	if cfg.MaxHold > 0 {
		hold := l.holdLeft()
		if hold <= 0 {
			return 0, ErrMaxHold
		}
		bounded, cancel := context.WithTimeout(ctx, hold)
		defer cancel()
		ctx = bounded
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
	if cfg.MaxHold > 0 {
		pause = min(pause, l.holdLeft())
	}
	return pause, nil
}

// holdLeft returns how much of Config.MaxHold the stage has left.
func (l *Lease) holdLeft() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scope.service.cfg.MaxHold - time.Since(l.since)
}

// renew asks Redis for the lease's full length. It returns nil if the lease was renewed or has
// ended meanwhile, ErrLeaseLost if it is lost, and another error if it is not known.
func (l *Lease) renew(ctx context.Context) error {
	s := l.scope.service
	sent := time.Now()
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	c := protocol.Renew{ID: l.id, Token: l.token, Fence: l.fence, Recovery: l.recovery(l.indexed())}
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
