package sqlidem

import (
	"context"
	"database/sql"

	"github.com/redisidem/redisidem/redisidem"
)

// compensated is stored for a compensation, which has no outcome.
const compensated = "compensated"

// Compensate returns a function for [redisidem.FlowStage.Compensate] that runs work in a
// transaction, like [Store.Stage]: each visit is undone once. An undone visit does not answer any
// more, so that a later record of the key runs it again. A compensation of a stage whose Work is
// not a Store's runs once for each record. The errors are those of Stage.
func (s *Store) Compensate(
	work func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error,
) func(ctx context.Context, st *redisidem.Stage) error {
	return func(ctx context.Context, st *redisidem.Stage) error {
		if work == nil {
			return invalid("work", "must not be nil")
		}
		undone := st.Compensates()
		v := s.visitAt(st, undone.Stage)
		v.undone = &undone
		v.work = func(ctx context.Context, tx *sql.Tx) ([]byte, error) {
			if err := work(ctx, tx, st); err != nil {
				return nil, err
			}
			return []byte(compensated), nil
		}
		v.found = func([]byte) error { return nil }
		return v.run(ctx)
	}
}
