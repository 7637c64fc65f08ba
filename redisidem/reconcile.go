package redisidem

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

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

// reconcile runs Reconcile. A panic and NothingDone become errors, because they leave open whether
// the work was done.
func (s *FlowStage) reconcile(ctx context.Context, st *Stage) (o Outcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reconcile of stage %q panicked: %v\n%s", s.Point, v, debug.Stack())
		}
	}()
	o, err = s.Reconcile(ctx, st)
	if err == nil && o.idle {
		err = invalid("Outcome", "is NothingDone: Reconcile must return ErrNothingDone if the work was not done")
	}
	return o, err
}
