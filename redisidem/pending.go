package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// lastCommitPause is the longest pause between two tries of a commit in the background.
const lastCommitPause = time.Second

// commitLater takes over a commit that got no answer: it is tried again in the background until its fate is known, for
// Config.CommitRetry. The lease is not given back: until it lapses nobody else can start, and the result may be in Redis
// already.
func (l *Lease) commitLater(ctx context.Context, c call, e encodedOutcome, why error) error {
	s := l.scope.service
	why = unavailable(context.WithoutCancel(ctx), "commit", why)
	unknown := l.event(Unknown)
	unknown.Err = why
	s.observe(ctx, unknown)

	if s.cfg.CommitRetry > 0 {
		if s.pending.Add(1) > int64(s.cfg.MaxPendingCommits) {
			s.pending.Add(-1)
			s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: too many commits pending, one is dropped", attrKey(l.id))
		} else {
			s.life.also()
			c.words = slices.Clone(c.words)
			c.words[c.arg(commitFlags)] = c.withoutKeep() // nobody will work under it any more
			go l.keepCommitting(context.WithoutCancel(ctx), c, e)
		}
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown, errors.Unwrap(why))
}

// keepCommitting repeats a commit until its fate is known or the time for it is over.
func (l *Lease) keepCommitting(ctx context.Context, c call, e encodedOutcome) {
	s := l.scope.service
	defer s.life.leave()
	defer s.pending.Add(-1)
	began := time.Now()
	for pause := lastPause; ; pause = min(2*pause, lastCommitPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.life.ctx.Done():
			timer.Stop()
			l.dropped(ctx, ErrClosed)
			return
		}
		bounded, cancel := s.detached(ctx)
		r, err := s.run(bounded, c)
		cancel()
		if err == nil && (r.status == statusGone || r.status == statusForgotten) {
			l.dropped(ctx, ErrCommitUnknown) // of which the caller was told
			return
		}
		if err == nil || errors.Is(err, ErrDamaged) {
			if _, _, err := l.committed(ctx, l.Key(), e, false, began, r, err); err != nil {
				l.dropped(ctx, err)
			} else if r.number(0) == "1" {
				// An earlier try has kept the lease.
				s.forget(ctx, l.id, l.token)
			}
			return
		}
		if time.Since(began) > s.cfg.CommitRetry {
			l.dropped(ctx, err)
			return
		}
	}
}

// dropped says that a commit's fate stays unknown, or that it was refused.
func (l *Lease) dropped(ctx context.Context, why error) {
	l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: commit given up", attrKey(l.id), attrErr(why))
}
