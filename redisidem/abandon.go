package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// Abandon gives the lease back without a result: the recovery point stays, the attempt counts. The caller's
// cancellation does not stop it. It returns [ErrLeaseEnded], or [ErrUnavailable] when Redis did not answer: the key then
// becomes free when the lease lapses.
func (l *Lease) Abandon(ctx context.Context) error { return l.giveUp(ctx, nil) }

// giveUp is Abandon with the reason. Work that a shutdown has cut short has not failed.
func (l *Lease) giveUp(ctx context.Context, reason error) error {
	flags := ""
	if errors.Is(context.Cause(l.ctx), errStopped) || errors.Is(l.whyEnded(), ErrClosed) {
		flags = flagSpared
	}
	_, err := l.abandon(ctx, reason, flags, "")
	return err
}

// putBack is giveUp for a lease under which the stage that is next has not begun. It does not
// count.
func (l *Lease) putBack(ctx context.Context, reason error) error {
	flags := flagIdle
	if !l.wasKept() {
		flags += flagUnbegun
	}
	_, err := l.abandon(ctx, reason, flags, "")
	return err
}

// putBackIdle is Abandon for an attempt that did nothing. It counts nevertheless when an earlier
// run under this lease has failed: what that one did is unknown.
func (l *Lease) putBackIdle(ctx context.Context) error {
	l.mu.Lock()
	l.idle = true
	flags := flagIdle
	if l.retried {
		flags = ""
	}
	l.mu.Unlock()
	_, err := l.abandon(ctx, nil, flags, "")
	return err
}

// bury is putBack for a key that a completer gives up. It reports whether the lease was still there
// to be given up.
func (l *Lease) bury(ctx context.Context, flags, letter string) (bool, error) {
	return l.abandon(ctx, errors.New(letter), flagIdle+flagUnbegun+flags, letter)
}

func (l *Lease) abandon(ctx context.Context, reason error, flags, letter string) (buried bool, err error) {
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
	if letter != "" {
		flow = l.flow
	}
	c := s.abandonCall(l.id, l.token, flow, flags, letter)
	var r reply
	if flags == "" {
		bounded, cancel := s.detached(ctx)
		defer cancel()
		r, err = s.run(bounded, c)
	} else {
		r, err = s.giveBack(ctx, l.id, c, 0, func(r reply) {
			if r.buried() {
				tell(EventDeadLettered)
			}
		})
	}
	if buried = err == nil && r.buried(); buried {
		tell(EventDeadLettered)
	} else {
		tell(EventAbandoned)
	}
	return buried, explain(context.WithoutCancel(ctx), "abandon", err)
}

// buried reports whether the answer to an abandon says that the key was given up.
func (r reply) buried() bool { return r.number(0) == "1" }

// abandonCall makes the invocation of the abandon script, for a key of a flow if that is known. A
// letter gives the key up, if the attempt still has the lease.
func (s *Service) abandonCall(id identity, token string, flow *Flow, flags, letter string) call {
	keys := id.keys(flow)
	if letter != "" {
		keys = append(keys, id.deadLetters(flow.cfg.Name))
	}
	c := newCall(lua.Abandon, token, 4, keys...)
	c.add(flags)
	if flow.recoverable() {
		c.add(flow.recoverAfter(s.cfg.Retention))
	}
	if letter != "" {
		c.add(letter, (s.cfg.Retention + s.cfg.Lease).Milliseconds())
	}
	return c
}

// forget gives back what a claimant without a lease may have, or may get when a lost try arrives
// late.
func (s *Service) forget(ctx context.Context, id identity, by *claimant) {
	if by.open {
		s.release(ctx, id, by.token, flagIdle+flagUnbegun, s.cfg.Lease)
	}
}

// release is giveBack in the background: its caller has waited long enough.
func (s *Service) release(ctx context.Context, id identity, token, flags string, lookout time.Duration) {
	s.life.also()
	go func() {
		defer s.life.leave()
		_, _ = s.giveBack(ctx, id, s.abandonCall(id, token, nil, flags, ""), lookout, nil)
	}()
}

// giveBack gives a lease back under which no callback runs, and returns the error of the first try.
// It is retried in the background until its answer is there, as a commit is. A claim without an
// answer may still be under way, and would lock the key for a lease: for the time of the lookout
// the give-back is repeated until it has met its claim. If late is not nil it gets the answer that
// came in the background.
func (s *Service) giveBack(ctx context.Context, id identity, c call, lookout time.Duration, late func(reply)) (reply, error) {
	began := time.Now()
	over := func(r reply, err error) bool {
		return errors.Is(err, ErrDamaged) ||
			err == nil && (r.number(1) == met || time.Since(began) >= lookout || s.life.isClosing())
	}
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.run(bounded, c)
	if !over(r, err) {
		s.later(ctx, &s.returning, id, func(ctx context.Context) {
			err := s.outlast(ctx, &c, min(max(s.cfg.Timeout, firstPause), lastCommitPause), func(r reply, err error) bool {
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

// met is the number in the reply to an abandon that says that nothing can come after it.
const met = "1"
