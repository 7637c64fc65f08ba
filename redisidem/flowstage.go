package redisidem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// FlowStage is one stage of a [Flow].
type FlowStage struct {
	// Point is the recovery point at which the stage starts. It is required and unique in the flow.
	Point string

	// Work does the stage's work. It should return Next, Finish, Fail, Interim or Snooze. It is
	// required.
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
	// itself in Next may repeat without limit. Default: 16.
	MaxVisits int

	// Reconcile finds out whether an earlier attempt at this stage did its work. It runs before
	// Work if an earlier attempt began and was not committed, in this process or another one.
	//
	// If the work was done, Reconcile returns the outcome. If not, it returns ErrNothingDone, and
	// Work runs. Any other error, a panic or the outcome NothingDone means that Reconcile cannot
	// decide. The stage then runs again as Retry says, beginning with Reconcile. After the last run
	// WorkFlow returns the error with ErrOutcomeUnknown. The recovery point stays, and the attempt
	// counts.
	//
	// ErrNothingDone is final when the flow is failed, so a request of the earlier attempt must not
	// take effect afterwards. Another service that refuses the fences of earlier leases may still
	// accept a delayed request of this lease. If so, use CompensateFailed in place of Reconcile.
	//
	// Nil: Work runs again, unless the flow is failed meanwhile. It can use Stage.Attempt,
	// Stage.Fence and Stage.OutboundKey to repeat its work safely.
	Reconcile StageFunc

	// Compensate undoes the stage's work after the flow has failed for good. It runs once for each
	// commit of the stage, including interim ones; [Stage.Compensates] returns that commit. Snoozes
	// that follow each other count as one commit, the last. It runs again if it fails or its
	// process dies, so it must be safe to repeat.
	//
	// The journal of such a flow's keys remembers 1024 commits (MaxUndoable), and warns before that
	// (WarnUndoable). If a key with more commits has to be undone, that fails with ErrDamaged
	// before the first Compensate runs. Nil: the stage needs
	// no compensation.
	Compensate func(ctx context.Context, st *Stage) error

	// CompensateFailed makes Compensate also run for an attempt at the stage that was not
	// committed, if the flow fails there: because the stage returned Fail, its attempts were used
	// up, the flow was failed while the stage was running, or [Outcome.Undo] ended it by hand. It
	// does not run if Reconcile has returned ErrNothingDone. Compensate must accept that the work
	// was not done, or that a request of the attempt is still under way. [Stage.Compensates]
	// returns the commit that failed the flow. It has the attempt's number, or 0 if [Scope.Update]
	// made it, and the attempt's fence if the attempt made that commit.
	CompensateFailed bool

	// NoReturn makes the stage's commit the point of no return. After it, neither this stage nor an
	// earlier one is compensated.
	NoReturn bool
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
	if cause := st.lease.failCause(st.key); cause != nil {
		return f.fail(ctx, st, stage, cause, st.attempt > 1)
	}
	bounded, cancel := st.lease.untilDeadline(ctx, st.key)
	defer cancel()
	o, reconciled, err := stage.perform(bounded, st)
	if err != nil && bounded.Err() != nil && st.lease.isPastDeadline(st.key) {
		return f.fail(ctx, st, stage, ErrDeadline, true)
	}
	if err != nil {
		return Outcome{}, &StageError{Stage: point, Err: err}
	}
	return f.resolveOrEnd(stage, st, o, reconciled)
}

// resolveOrEnd is resolve for a stage whose work is done: an outcome that is invalid ends the key.
func (f *Flow) resolveOrEnd(stage *FlowStage, st *Stage, o Outcome, reconciled bool) (Outcome, error) {
	resolved, err := f.resolve(stage, st.key, o, reconciled)
	switch {
	case err == nil || !errors.Is(err, ErrInvalid) || o.idle:
		return resolved, err // only an invalid outcome of done work goes on below
	case reconciled:
		return Outcome{}, &StageError{Stage: stage.Point, Err: fmt.Errorf("%w: reconcile: %w", ErrOutcomeUnknown, err)}
	}
	if o.failed && !strings.HasPrefix(resolved.RecoveryPoint, compensating) {
		if next, undoErr := f.undoFrom(stage, st.key, true); undoErr == nil {
			return Outcome{RecoveryPoint: next, refused: err, elsewhere: o.elsewhere}, nil
		}
	}
	return Outcome{refused: err, elsewhere: o.elsewhere}, nil // the work is done, and must not run again
}

// resolve turns a stage's outcome into one that can be committed.
func (f *Flow) resolve(stage *FlowStage, key *Key, o Outcome, reconciled bool) (Outcome, error) {
	if err := o.checkExtra(); err != nil {
		return o, err
	}
	if o.snooze > 0 && o.RecoveryPoint == "" {
		o.RecoveryPoint = stage.Point
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
		next, err := f.undoFrom(stage, key, true)
		if err != nil {
			return o, err
		}
		// The answer is stored now, and returned when everything is undone.
		o.RecoveryPoint, o.failed = next, false
		return o, nil
	case o.RecoveryPoint == "" && o.Response == nil && (reconciled || !slices.Equal(stage.Next, []string{Finished})):
		return o, invalid("Outcome.RecoveryPoint",
			"is empty, as in the zero Outcome: stage %q of %s ends with Next, Finish, Fail, Interim, Snooze or NothingDone", stage.Point, f)
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
