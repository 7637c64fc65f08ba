package redisidem

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
)

// runAt runs the stage or the compensation at the key's recovery point.
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
		return resolved, err
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

// perform runs the stage's work, or finds out with Reconcile that it was done.
func (s *FlowStage) perform(ctx context.Context, st *Stage) (o Outcome, reconciled bool, err error) {
	o, err = s.retry(ctx, st, func(ctx context.Context, st *Stage) (Outcome, error) {
		if st.attempt > 1 && s.Reconcile != nil {
			o, err := s.runOnce(ctx, st, s.reconcile)
			switch {
			case err == nil:
				reconciled = true
				return o, nil
			case !errors.Is(err, ErrNothingDone):
				return Outcome{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
			}
		}
		return s.runOnce(ctx, st, s.Work)
	})
	return o, reconciled, err
}

// reconcile runs Reconcile. A panic becomes an error, because it leaves open whether the work was
// done.
func (s *FlowStage) reconcile(ctx context.Context, st *Stage) (o Outcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reconcile of stage %q panicked: %v\n%s", s.Point, v, debug.Stack())
		}
	}()
	return s.Reconcile(ctx, st)
}

// retry runs work until it succeeds or its retries are used up.
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
	_, commit := errors.AsType[*commitUnknownError](err) // of another key, whose call is safe to repeat
	return commit
}
