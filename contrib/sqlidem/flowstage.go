package sqlidem

import (
	"context"
	"database/sql"

	"github.com/redisidem/redisidem/redisidem"
)

// FlowStage returns a flow's stage with work in a transaction: with [Store.Stage] as its Work,
// [Store.Reconcile] as its Reconcile, and, if undo is not nil, [Store.Compensate] as its
// Compensate. Everything else is that of stage. A nil work leaves Work nil, which
// [redisidem.NewFlow] refuses.
func (s *Store) FlowStage(
	stage redisidem.FlowStage, work Work, undo func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error,
) redisidem.FlowStage {
	stage.Work, stage.Reconcile = nil, s.Reconcile()
	if work != nil {
		stage.Work = s.Stage(work)
	}
	if undo != nil {
		stage.Compensate = s.Compensate(undo)
	}
	return stage
}
