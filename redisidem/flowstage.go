package redisidem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// FlowStage is one stage of a [Flow].
type FlowStage struct {
	// Point is the recovery point at which the stage starts. It is required and unique in the flow.
	Point string

	// Work does the stage's work. It should return Next, Finish, Fail or Interim. It is required.
	Work StageFunc

	// Next lists the recovery points to which Work may advance. A stage that may run again at once,
	// to work through a long list in parts, names its own point.
	//
	// Finish and Fail are always allowed. Interim may name this stage's point, an earlier stage's
	// point, or a point of Next. Nil: the point of the following stage, or Finished for the last
	// stage.
	Next []string

	// Timeout bounds each run of Work, Reconcile and Compensate: their context ends after it. Zero:
	// only Config.MaxHold bounds a run.
	Timeout time.Duration

	// Retry configures whether the stage runs again after an error. The zero value: the first error
	// ends the run.
	Retry Retry

	// MaxVisits bounds how often one run of the flow may enter this stage from another one. It
	// stops stages that advance to each other without end, with ErrNoProgress. A stage that names
	// itself in Next may repeat without limit, within Config.MaxHold. Default: 16.
	MaxVisits int

	// Reconcile finds out whether an earlier attempt at this stage did its work. It runs before
	// Work if an earlier attempt began and was not committed, in this process or another one.
	//
	// If the work was done, Reconcile returns the outcome. If not, it returns ErrNothingDone, and
	// Work runs. Any other error, or a panic, means that Reconcile cannot decide. The stage
	// then runs again as Retry says, beginning with Reconcile. After the last run WorkFlow returns
	// the error with ErrOutcomeUnknown. The recovery point stays, and the attempt counts.
	//
	// Nil: Work runs again. It can use Stage.Attempt, Stage.Fence and Stage.OutboundKey to repeat
	// its work safely.
	Reconcile StageFunc

	// Compensate undoes the stage's work after the flow has failed for good. It runs once for each
	// commit of the stage, including interim ones; [Stage.Compensates] returns that commit. It runs
	// again if it fails or its process dies, so it must be safe to repeat.
	//
	// The journal of such a flow's keys remembers 1024 commits. If a key with more commits has to
	// be undone, that fails with ErrDamaged before the first Compensate runs. Nil: the stage needs
	// no compensation.
	Compensate func(ctx context.Context, st *Stage) error

	// NoReturn makes the stage's commit the point of no return. After it, neither this stage nor an
	// earlier one is compensated.
	NoReturn bool
}

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

// runAt runs the stage or the compensation at the key's recovery point. visit counts how often this
// run of the flow has entered the stage.
func (f *Flow) runAt(ctx context.Context, st *Stage, visit int) (Outcome, error) {
	point := st.key.RecoveryPoint
	if revision, ok := strings.CutPrefix(point, compensating); ok {
		return f.compensate(ctx, st, revision)
	}
	stage := f.stages[point]
	switch {
	case stage == nil:
		return Outcome{}, fmt.Errorf("%w: %q", ErrUnknownRecoveryPoint, point)
	case visit > stage.MaxVisits:
		return Outcome{}, fmt.Errorf("%w: stage %q came back more than %d times", ErrNoProgress, point, stage.MaxVisits)
	}
	o, reconciled, err := stage.perform(ctx, st)
	if err != nil {
		return Outcome{}, &StageError{Stage: point, Err: err}
	}
	resolved, err := f.resolve(stage, st.key, o, reconciled)
	switch {
	case err == nil || !errors.Is(err, ErrInvalid) || o.idle:
		return resolved, err // only an invalid outcome of done work goes on below
	case reconciled:
		return Outcome{}, &StageError{Stage: point, Err: fmt.Errorf("%w: reconcile: %w", ErrOutcomeUnknown, err)}
	}
	if o.failed && !strings.HasPrefix(resolved.RecoveryPoint, compensating) {
		if next, undoErr := f.undo(st.key, len(st.key.Journal)-1); undoErr == nil {
			return Outcome{RecoveryPoint: next, refused: err}, nil
		}
	}
	return Outcome{refused: err}, nil // the work is done, and must not run again
}

// resolve turns a stage's outcome into one that can be committed.
func (f *Flow) resolve(stage *FlowStage, key *Key, o Outcome, reconciled bool) (Outcome, error) {
	if err := o.checkExtra(); err != nil {
		return o, err
	}
	switch {
	case o.idle:
		return o, nil
	case o.leave, o.undo != nil:
		return o, invalid("Outcome.Undo", "and Leave are for outcomes by hand: in a flow Fail undoes what was committed")
	case o.next:
		i := f.order[stage.Point] + 1
		if i == len(f.cfg.Stages) {
			return o, invalid("Outcome", "is Next, but %q is the last stage of %s", stage.Point, f)
		}
		o.next, o.RecoveryPoint = false, f.cfg.Stages[i].Point
	case o.failed:
		next, err := f.undo(key, len(key.Journal)-1)
		if err != nil {
			return o, err
		}
		// The answer is stored now, and returned when everything is undone.
		o.RecoveryPoint, o.failed = next, false
		return o, nil
	case o.RecoveryPoint == "" && o.Response == nil && (reconciled || !slices.Equal(stage.Next, []string{Finished})):
		return o, invalid("Outcome.RecoveryPoint",
			"is empty, as in the zero Outcome: stage %q of %s ends with Next, Finish, Fail, Interim or NothingDone", stage.Point, f)
	case o.RecoveryPoint == "":
		o.RecoveryPoint = Finished
	}
	to, known := f.order[o.RecoveryPoint]
	switch {
	case slices.Contains(stage.Next, o.RecoveryPoint):
		o.again = o.RecoveryPoint == stage.Point
	case o.RecoveryPoint == Finished, o.Interim && known && to <= f.order[stage.Point]:
	case o.RecoveryPoint == stage.Point:
		return o, fmt.Errorf("%w: %q is not among its Next", ErrNoProgress, stage.Point)
	default:
		return o, invalid("Outcome.RecoveryPoint", "%q is not among the Next of %q", o.RecoveryPoint, stage.Point)
	}
	return o, nil
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

// complete fills in the defaults of one stage and checks it. Of the other stages it looks only at
// the earlier ones, for a repeated point.
func (s *FlowStage) complete(field string, f *Flow) error {
	def(&s.MaxVisits, DefaultMaxVisits)
	def(&s.Retry.Attempts, 1)
	def(&s.Retry.Backoff, DefaultBackoff)
	def(&s.Retry.MaxBackoff, max(DefaultMaxBackoff, s.Retry.Backoff))
	s.Next = slices.Clone(s.Next)
	switch {
	case s.Point == "":
		return invalid(field+".Point", "must not be empty")
	case s.Point == Finished || strings.HasPrefix(s.Point, compensating) || strings.Contains(s.Point, "\n"):
		return invalid(field+".Point", "must not be %q, nor begin with %q, nor have a line break: %q", Finished, compensating, s.Point)
	case f.stages[s.Point] != nil:
		return invalid(field+".Point", "is already the point of an earlier stage: %q", s.Point)
	case s.Work == nil:
		return invalid(field+".Work", "must not be nil")
	case s.Next != nil && len(s.Next) == 0:
		return invalid(field+".Next", "must not be empty; nil stands for the following stage, or Finished for the last one")
	case s.Timeout < 0:
		return invalid(field+".Timeout", "must not be negative: %v", s.Timeout)
	case s.MaxVisits < 1:
		return invalid(field+".MaxVisits", "must be at least 1: %d", s.MaxVisits)
	case s.Retry.Attempts < 1:
		return invalid(field+".Retry.Attempts", "must not be negative: %d", s.Retry.Attempts)
	case s.Retry.Backoff < 0 || s.Retry.MaxBackoff < s.Retry.Backoff:
		return invalid(field+".Retry.Backoff", "must be between 0 and MaxBackoff (%v): %v", s.Retry.MaxBackoff, s.Retry.Backoff)
	}
	return nil
}
