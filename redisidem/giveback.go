package redisidem

import (
	"context"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// forget gives back what a claimant without a lease may have, or may get when a lost try arrives
// late.
func (s *Service) forget(ctx context.Context, id identity, by *protocol.Claimant) {
	if by.Open {
		s.release(ctx, id, by.Token, protocol.Ending{NothingDone: true, Unbegun: true}, s.cfg.Lease)
	}
}

// release is giveBack in the background: its caller has waited long enough.
func (s *Service) release(ctx context.Context, id identity, token string, ending protocol.Ending, lookout time.Duration) {
	s.life.also()
	go func() {
		defer s.life.leave()
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
			err == nil && (r.MetClaim() || time.Since(began) >= lookout || s.life.isClosing())
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
