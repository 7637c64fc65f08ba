package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Abandon gives the lease back without a result: the recovery point stays, the attempt counts. The
// caller's cancellation does not stop it. It returns [ErrLeaseEnded], or [ErrUnavailable] when
// Redis did not answer: the key then becomes free when the lease lapses.
func (l *Lease) Abandon(ctx context.Context) error { return l.giveUp(ctx, nil) }

// giveUp is Abandon with the reason. Work that a shutdown has cut short has not failed.
func (l *Lease) giveUp(ctx context.Context, reason error) error {
	stopped := errors.Is(context.Cause(l.ctx), errStopped) || errors.Is(l.whyEnded(), ErrClosed)
	_, err := l.abandon(ctx, reason, protocol.Abandon{Ending: protocol.Ending{Stopped: stopped}})
	return err
}

// putBack is giveUp for a lease under which the stage that is next has not begun. It does not
// count.
func (l *Lease) putBack(ctx context.Context, reason error) error {
	_, err := l.abandon(ctx, reason, protocol.Abandon{Ending: protocol.Ending{NothingDone: true, Unbegun: !l.wasKept()}})
	return err
}

// putBackIdle is Abandon for an attempt that did nothing. It counts nevertheless when an earlier
// run under this lease has failed: what that one did is unknown.
func (l *Lease) putBackIdle(ctx context.Context) error {
	l.mu.Lock()
	l.idle = true
	ending := protocol.Ending{NothingDone: !l.retried}
	l.mu.Unlock()
	_, err := l.abandon(ctx, nil, protocol.Abandon{Ending: ending})
	return err
}

// abandonAsDeadLetter is putBack for a key that a completer gives up. It reports whether the lease
// was still there to be given up.
func (l *Lease) abandonAsDeadLetter(ctx context.Context, ending protocol.Ending, letter string) (bool, error) {
	ending.NothingDone, ending.Unbegun = true, true
	return l.abandon(ctx, errors.New(letter), protocol.Abandon{Ending: ending, DeadLetter: letter})
}

// abandon ends the lease without a result, as a says, which it completes.
func (l *Lease) abandon(ctx context.Context, reason error, a protocol.Abandon) (buried bool, err error) {
	if !l.end() {
		return false, ErrLeaseEnded
	}
	defer l.leave()
	s := l.scope.service
	tell := func(kind EventKind) {
		e := l.event(kind)
		e.Duration, e.Err = time.Since(l.began), reason
		s.observe(ctx, e)
	}
	flow := l.indexed()
	if a.DeadLetter != "" {
		flow = l.flow
	}
	a.ID, a.Token, a.Recovery = l.id, l.token, flow.recovery(s.cfg.Retention)
	c := s.redis.NewAbandon(a)
	var r protocol.Reply
	if a.Ending == (protocol.Ending{}) {
		bounded, cancel := s.detached(ctx)
		defer cancel()
		r, err = s.redis.Run(bounded, c)
	} else {
		r, err = s.giveBack(ctx, l.id, c, 0, func(r protocol.Reply) {
			if r.DeadLettered() {
				tell(EventDeadLettered)
			}
		})
	}
	if buried = err == nil && r.DeadLettered(); buried {
		tell(EventDeadLettered)
	} else {
		tell(EventAbandoned)
	}
	return buried, explain(context.WithoutCancel(ctx), "abandon", err)
}

// forget gives back what a claimant without a lease may have, or may get when a lost try arrives
// late.
func (s *Service) forget(ctx context.Context, id identity, by *protocol.Claimant) {
	if by.Open {
		s.release(ctx, id, by.Token, protocol.Ending{NothingDone: true, Unbegun: true}, s.cfg.Lease)
	}
}

// release is giveBack in the background: its caller has waited long enough.
func (s *Service) release(ctx context.Context, id identity, token string, ending protocol.Ending, lookout time.Duration) {
	s.inFlight.also()
	go func() {
		defer s.inFlight.leave()
		_, _ = s.giveBack(ctx, id, s.redis.NewAbandon(protocol.Abandon{ID: id, Token: token, Ending: ending}), lookout, nil)
	}()
}

// giveBack gives a lease back under which no callback runs, and returns the error of the first try.
// It is retried in the background until its answer is there, as a commit is. A claim without an
// answer may still be under way, and would lock the key for a lease: for the time of the lookout
// the give-back is repeated until it has met its claim. If late is not nil it gets the answer that
// came in the background.
func (s *Service) giveBack(ctx context.Context, id identity, c protocol.Call, lookout time.Duration, late func(protocol.Reply)) (protocol.Reply, error) {
	began := time.Now()
	over := func(r protocol.Reply, err error) bool {
		return protocol.IsDamaged(err) ||
			err == nil && (r.MetClaim() || time.Since(began) >= lookout || s.inFlight.isClosing())
	}
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	if !over(r, err) {
		s.later(ctx, &s.returning, id, func(ctx context.Context) {
			err := s.outlast(ctx, &c, min(max(s.cfg.Timeout, shortestCommitPause), lastCommitPause), func(r protocol.Reply, err error) bool {
				ends := over(r, err)
				if ends && err == nil && late != nil {
					late(r)
				}
				return ends
			})
			if err != nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: claim not given back", attrKey(id), attrErr(err))
			}
		})
	}
	return r, err
}
