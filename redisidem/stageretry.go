package redisidem

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// Retry configures how a stage is repeated after an error while the lease is held.
type Retry struct {
	// Attempts is the maximum number of runs under one lease. Zero and 1: one run.
	Attempts int
	// Backoff is the pause before the second run. Later pauses double up to MaxBackoff, and half of
	// each pause is jitter. Defaults: 100 ms, and 5 s or Backoff if that is longer.
	Backoff, MaxBackoff time.Duration
	// If reports whether another run may succeed after this error. Nil: every error is retried,
	// with one exception. A stage without Reconcile does not run again after ErrOutcomeUnknown,
	// unless the error came from a commit of this library to another key, which is safe to repeat.
	If func(error) bool
}

// retry runs work until it succeeds, its retries are used up, the error is not worth another run,
// or ctx ends.
func (s *FlowStage) retry(ctx context.Context, st *Stage, work StageFunc) (Outcome, error) {
	pauses := backoff.Backoff{First: s.Retry.Backoff, Max: s.Retry.MaxBackoff}
	for try := 1; ; try++ {
		o, err := work(ctx, st)
		if err == nil || try >= s.Retry.Attempts || ctx.Err() != nil || !s.retryable(err) {
			return o, err
		}
		if !backoff.Wait(ctx, pauses.Jittered()) {
			return o, err
		}
		st.attempt = st.lease.runAgain()
	}
}

// runOnce makes one run within the stage's timeout.
func (s *FlowStage) runOnce(ctx context.Context, st *Stage, work StageFunc) (Outcome, error) {
	if s.Timeout > 0 {
		bounded, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		defer st.lease.watchHung(s.Timeout)()
		ctx = bounded
	}
	return work(ctx, st)
}

// retryable reports whether an error is worth another run.
func (s *FlowStage) retryable(err error) bool {
	if s.Retry.If != nil {
		return s.Retry.If(err)
	}
	if s.Reconcile != nil || !errors.Is(err, ErrOutcomeUnknown) {
		return true
	}
	_, commit := errors.AsType[*commitUnknownError](err) // from a commit to another key, which is safe to repeat
	return commit
}
