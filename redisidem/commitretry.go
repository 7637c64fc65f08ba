package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// maxBackground bounds how many commits, and how many give-backs, are retried at the same time.
// Each commit holds its response in memory.
const maxBackground = 1024

// The pauses between two tries of a commit in the background double from the first to the last.
const (
	firstCommitPause    = 100 * time.Millisecond
	lastCommitPause     = time.Second
	shortestCommitPause = 5 * time.Millisecond // however short Config.Timeout is
)

// retryInBackground runs work in the background, and Close waits for it. It reports false and skips
// the work if Config.CommitRetry is negative, or, with a line in the log, if maxBackground works of
// its kind are running. The caller must be inside inFlight.
func (s *Service) retryInBackground(ctx context.Context, kind *atomic.Int64, id identity, work func(context.Context)) bool {
	switch {
	case s.cfg.CommitRetry <= 0:
		return false
	case kind.Add(1) > s.maxBackground:
		kind.Add(-1)
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: not retried: too many retries are running", attrKey(id))
		return false
	default:
		s.inFlight.add()
		go func() {
			defer s.inFlight.leave()
			defer kind.Add(-1)
			work(context.WithoutCancel(ctx))
		}()
	}
	return true
}

// repeat repeats a call until done accepts its result, with pauses that grow up to longest. done
// may change the call. It returns an error if Config.CommitRetry has passed, or the service or its
// client is closed.
func (s *Service) repeat(ctx context.Context, c *protocol.Call, longest time.Duration, done func(protocol.Reply, error) bool) error {
	began := time.Now()
	pauses := backoff.Backoff{First: firstCommitPause, Max: longest}
	for {
		if !backoff.Wait(s.inFlight.ctx, pauses.Next()) {
			return ErrClosed
		}
		bounded, cancel := s.detached(ctx)
		r, err := s.redis.Run(bounded, *c)
		cancel()
		switch {
		case done(r, err):
			return nil
		case time.Since(began) > s.cfg.CommitRetry, errors.Is(err, redis.ErrClosed):
			return err
		}
	}
}

// retryCommit takes over a commit without an answer. It is retried in the background until its fate
// is known, for Config.CommitRetry. The lease is not given back, because the result may be in Redis
// already. Until the lease lapses, no other worker can start.
func (l *Lease) retryCommit(ctx context.Context, c protocol.Call, e encodedOutcome, why error) error {
	s := l.scope.service
	why = unavailable(context.WithoutCancel(ctx), "commit", why)
	unknown := l.event(EventOutcomeUnknown)
	unknown.Err = why
	s.observe(ctx, unknown)

	again, kept := c.WithoutKeep() // no further stage runs under the lease
	err := &commitUnknownError{errors.Unwrap(why)}
	if !s.retryInBackground(ctx, s.pending, l.id, func(ctx context.Context) { l.repeatCommit(ctx, again, e, kept) }) {
		l.observeDropped(ctx, err)
	}
	return err
}

// repeatCommit repeats a commit until its fate is known or Config.CommitRetry has passed. kept
// means that the first try was to keep the lease. It may have done so, and the next stage will not
// begin under it.
func (l *Lease) repeatCommit(ctx context.Context, c protocol.Call, e encodedOutcome, kept bool) {
	s := l.scope.service
	began := time.Now()
	err := s.repeat(ctx, &c, lastCommitPause, func(r protocol.Reply, err error) bool {
		switch {
		case err != nil && !protocol.IsDamaged(err):
			return false
		case err == nil && (r.Status == protocol.StatusGone || r.Status == protocol.StatusForgotten):
			l.dropCommit(ctx, ErrOutcomeUnknown) // the caller has got this error already
			return true
		}
		if err == nil && r.Status == protocol.StatusEffect && e.worked {
			// The work is done and must not run again. The next tries commit the outcome without
			// its result.
			if without, err := l.encode(e.withoutResult(effectError(e.effects, r)), l.Key()); err == nil {
				e, c = without, l.commitCall(l.Key(), without, false)
				return false
			}
		}
		_, _, err = l.applyReply(ctx, commitTry{l.Key(), e, false, began}, r, err)
		stored := err == nil || errors.Is(err, ErrNotDurable) || errors.Is(err, ErrNotKept)
		switch {
		case !stored:
			l.dropCommit(ctx, err)
		case kept: // even if its lock has lapsed, because the attempt would count otherwise
			s.abandonInBackground(ctx, l.id, l.token, protocol.Ending{NothingDone: true}, 0)
		}
		return true
	})
	if err != nil {
		l.dropCommit(ctx, &commitUnknownError{err})
	}
}

// dropCommit logs and reports that a commit's fate stays unknown, or that it was refused.
func (l *Lease) dropCommit(ctx context.Context, why error) {
	l.observeDropped(ctx, why)
	l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: commit given up", attrKey(l.id), attrErr(why))
}

func (l *Lease) observeDropped(ctx context.Context, why error) {
	e := l.event(EventCommitDropped)
	e.Err = why
	l.scope.service.observe(ctx, e)
}

// attrKey returns the log attribute that names a key by its digest.
func attrKey(id identity) slog.Attr { return slog.String("key", id.Digest) }

func attrErr(err error) slog.Attr { return slog.String("error", err.Error()) }
