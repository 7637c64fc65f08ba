package redisidem

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// lastCommitPause is the longest pause between two tries of a commit in the background.
const lastCommitPause = time.Second

// later runs work in the background, which Close waits for, unless as much work of its kind is
// there already as Config.MaxPendingCommits allows. The caller is inside life.
func (s *Service) later(ctx context.Context, kind *atomic.Int64, id identity, work func(context.Context)) {
	switch {
	case s.cfg.CommitRetry <= 0:
	case kind.Add(1) > int64(s.cfg.MaxPendingCommits):
		kind.Add(-1)
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: MaxPendingCommits are tried again already, one more is not", attrKey(id))
	default:
		s.life.also()
		go func() {
			defer s.life.leave()
			defer kind.Add(-1)
			work(context.WithoutCancel(ctx))
		}()
	}
}

// outlast repeats a call, which over may change, until over accepts what came of it, with pauses
// that grow up to longest. It returns why it stopped before: its time, Config.CommitRetry, has
// passed, or the service or its client is closed.
func (s *Service) outlast(ctx context.Context, c *call, longest time.Duration, over func(reply, error) bool) error {
	began := time.Now()
	for pause := min(lastPause, longest); ; pause = min(2*pause, longest) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.life.ctx.Done():
			timer.Stop()
			return ErrClosed
		}
		bounded, cancel := s.detached(ctx)
		r, err := s.run(bounded, *c)
		cancel()
		switch {
		case over(r, err):
			return nil
		case time.Since(began) > s.cfg.CommitRetry, errors.Is(err, redis.ErrClosed):
			return err
		}
	}
}

// commitLater takes over a commit that got no answer: it is tried again in the background until its fate is known, for
// Config.CommitRetry. The lease is not given back: until it lapses nobody else can start, and the result may be in Redis
// already.
func (l *Lease) commitLater(ctx context.Context, c call, e encodedOutcome, why error) error {
	s := l.scope.service
	why = unavailable(context.WithoutCancel(ctx), "commit", why)
	unknown := l.event(EventOutcomeUnknown)
	unknown.Err = why
	s.observe(ctx, unknown)

	flags, repeated := c.words[c.arg(commitFlags)], c.withoutKeep() // no stage runs under it any more
	c.words = slices.Clone(c.words)
	c.words[c.arg(commitFlags)] = repeated
	s.later(ctx, &s.pending, l.id, func(ctx context.Context) { l.keepCommitting(ctx, c, e, flags != repeated) })
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, errors.Unwrap(why))
}

// keepCommitting repeats a commit until its fate is known or the time for it is over. If the first
// try was to keep the lease, it may have done so, for a stage that will not begin under it.
func (l *Lease) keepCommitting(ctx context.Context, c call, e encodedOutcome, kept bool) {
	s := l.scope.service
	began := time.Now()
	err := s.outlast(ctx, &c, lastCommitPause, func(r reply, err error) bool {
		switch {
		case err != nil && !errors.Is(err, ErrDamaged):
			return false
		case err == nil && (r.status == statusGone || r.status == statusForgotten):
			l.dropped(ctx, ErrOutcomeUnknown) // of which the caller was told
			return true
		}
		if err == nil && r.status == statusEffect && e.worked {
			// The work is done and must not run again: from now on the outcome without its result
			// is tried.
			if without, err := l.encode(e.withoutResult(effectError(e.effects, r)), l.Key()); err == nil {
				e, c = without, l.commitCall(l.Key(), without, false)
				return false
			}
		}
		if _, _, err := l.committed(ctx, l.Key(), e, false, began, r, err); err != nil {
			l.dropped(ctx, err)
		} else if kept { // also when its lock has lapsed: its attempt counts otherwise
			s.release(ctx, l.id, l.token, flagIdle, 0)
		}
		return true
	})
	if err != nil {
		l.dropped(ctx, err)
	}
}

// dropped says that a commit's fate stays unknown, or that it was refused.
func (l *Lease) dropped(ctx context.Context, why error) {
	l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: commit given up", attrKey(l.id), attrErr(why))
}

// attrKey names a key in the log, by its digest.
func attrKey(id identity) slog.Attr { return slog.String("key", id.digest) }

func attrErr(err error) slog.Attr { return slog.String("error", err.Error()) }
