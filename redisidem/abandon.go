package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Abandon gives the lease back without a result: the recovery point stays, the attempt counts. The caller's
// cancellation does not stop it. It returns [ErrLeaseEnded], or [ErrUnavailable] when Redis did not answer: the key then
// becomes free when the lease lapses.
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

// bury is putBack for a key that a completer gives up. It reports whether the lease was still there
// to be given up.
func (l *Lease) bury(ctx context.Context, ending protocol.Ending, letter string) (bool, error) {
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
