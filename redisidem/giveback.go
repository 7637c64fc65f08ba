package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

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
