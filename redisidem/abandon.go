package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Abandon gives the lease back without a result. The recovery point stays, and the attempt counts.
// The caller's cancellation does not stop it, and Config.Timeout bounds it. It returns
// [ErrLeaseEnded] if the lease has ended already. It returns [ErrUnavailable] if Redis did not
// answer; the key is then free when the lease lapses.
func (l *Lease) Abandon(ctx context.Context) error { return l.abandon(ctx, nil) }

// abandon is Abandon with a reason for the event. Work that a shutdown has cut short does not count
// as failed.
func (l *Lease) abandon(ctx context.Context, reason error) error {
	why := l.whyEnded()
	stopped := errors.Is(context.Cause(l.ctx), errStopped) || errors.Is(why, ErrClosed)
	open := stopped || errors.Is(why, ErrLeaseLost)
	a := protocol.Abandon{Ending: protocol.Ending{Stopped: stopped, Open: open}, Failure: l.failure(reason)}
	_, err := l.abandonWith(ctx, reason, a)
	return err
}

// abandonUnbegun is abandon for a lease under which the next stage has not begun, so that the
// attempt does not count.
func (l *Lease) abandonUnbegun(ctx context.Context, reason error) error {
	_, err := l.abandonWith(ctx, reason, protocol.Abandon{Ending: protocol.Ending{NothingDone: true, Unbegun: !l.committedBefore()}})
	return err
}

// abandonIdle is Abandon for an attempt that had nothing to do. The attempt counts if an earlier
// run under this lease failed, because the effects of that run are unknown.
func (l *Lease) abandonIdle(ctx context.Context) error {
	l.mu.Lock()
	l.idle = true
	ending := protocol.Ending{NothingDone: !l.retried}
	l.mu.Unlock()
	_, err := l.abandonWith(ctx, nil, protocol.Abandon{Ending: ending})
	return err
}

// abandonAsDeadLetter is abandonUnbegun for a key that becomes a dead letter. It reports whether
// the lease was still held, so that the key became one.
func (l *Lease) abandonAsDeadLetter(ctx context.Context, ending protocol.Ending, letter string) (bool, error) {
	ending.NothingDone, ending.Unbegun = true, true
	reason := errors.New(letter)
	if last := l.Key().LastFailure; last != nil && last.Text != "" { // an observer has no record to look at
		reason = fmt.Errorf("%w; the last failure: %s", reason, last.Text)
	}
	return l.abandonWith(ctx, reason, protocol.Abandon{Ending: ending, DeadLetter: letter})
}

// abandonWith ends the lease without a result. It fills in the lease's part of a. It reports
// whether the key became a dead letter.
func (l *Lease) abandonWith(ctx context.Context, reason error, a protocol.Abandon) (buried bool, err error) {
	if !l.end() {
		return false, ErrLeaseEnded
	}
	defer l.close()
	s := l.scope.service
	emit := func(kind EventKind) {
		e := l.event(kind)
		e.Duration, e.Err = time.Since(l.began), reason
		if kind == EventDeadLettered {
			e.Scope = l.id.Scope
		}
		s.observe(ctx, e)
	}
	flow := l.indexed()
	if a.DeadLetter != "" {
		flow = l.flow
	}
	a.ID, a.Token, a.Recovery = l.id, l.token, l.recovery(flow)
	a.Ending.Unsettled = l.unsettled.Load()
	c := s.redis.NewAbandon(a)
	var r protocol.Reply
	needed := a.Ending
	needed.Open = false // a claim that finds the lease lapsed knows it as well
	if needed == (protocol.Ending{}) {
		bounded, cancel := s.detached(ctx)
		defer cancel()
		r, err = s.redis.Run(bounded, c)
	} else {
		r, err = s.sendAbandon(ctx, l.id, c, 0, func(r protocol.Reply) {
			if r.DeadLettered() {
				emit(EventDeadLettered)
			}
		})
	}
	if buried = err == nil && r.DeadLettered(); buried {
		emit(EventDeadLettered)
	} else {
		emit(EventAbandoned)
	}
	return buried, explain(context.WithoutCancel(ctx), "abandon", err)
}

// abandonRefused gives back a lease that has ended with a commit that Redis has refused.
func (l *Lease) abandonRefused(ctx context.Context, reason error) {
	s := l.scope.service
	e := l.event(EventAbandoned)
	e.Duration, e.Err = time.Since(l.began), reason
	_, _ = s.sendAbandon(ctx, l.id, s.redis.NewAbandon(protocol.Abandon{ID: l.id, Token: l.token, Failure: l.failure(reason)}), 0, nil)
	s.observe(ctx, e)
}

// abandonClaim gives back a lease that an unsuccessful claimant may have, or may get when a lost
// try arrives late.
func (s *Service) abandonClaim(ctx context.Context, id identity, by *protocol.Claimant) {
	if by.Open {
		s.abandonInBackground(ctx, id, by.Token, protocol.Ending{NothingDone: true, Unbegun: true}, s.cfg.Lease)
	}
}

// abandonInBackground is sendAbandon in the background, because its caller has waited long enough.
func (s *Service) abandonInBackground(ctx context.Context, id identity, token string, ending protocol.Ending, lookout time.Duration) {
	s.inFlight.add()
	go func() {
		defer s.inFlight.leave()
		_, _ = s.sendAbandon(ctx, id, s.redis.NewAbandon(protocol.Abandon{ID: id, Token: token, Ending: ending}), lookout, nil)
	}()
}

// sendAbandon gives back a lease under which no callback runs, and returns the result of the first
// try. Without an answer it is retried in the background, as a commit is.
//
// A claim without an answer may still be under way and would then lock the key for a lease. During
// lookout the give-back is therefore repeated until it has met its claim. If late is not nil, it
// gets the reply to a background try that ended the retries.
func (s *Service) sendAbandon(ctx context.Context, id identity, c protocol.Call, lookout time.Duration, late func(protocol.Reply)) (protocol.Reply, error) {
	began := time.Now()
	done := func(r protocol.Reply, err error) bool {
		return protocol.IsDamaged(err) ||
			err == nil && (r.MetClaim() || time.Since(began) >= lookout || s.inFlight.isClosing())
	}
	bounded, cancel := s.detached(ctx)
	defer cancel()
	r, err := s.redis.Run(bounded, c)
	if !done(r, err) {
		s.retryInBackground(ctx, s.returning, id, func(ctx context.Context) {
			err := s.repeat(ctx, &c, min(max(s.cfg.Timeout, shortestCommitPause), lastCommitPause), func(r protocol.Reply, err error) bool {
				ends := done(r, err)
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
