package sqlidem_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestFlowStageKeepsWhatItDoesNotReplace checks the parts of a stage that are not in SQL.
func TestFlowStageKeepsWhatItDoesNotReplace(t *testing.T) {
	store := open(t, "sqlite").store(t)
	work := func(context.Context, *sql.Tx, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Next(), nil
	}
	undone := false
	given := redisidem.FlowStage{
		Point: "paid", Next: []string{"packed"}, NoReturn: true,
		Compensate: func(context.Context, *redisidem.Stage) error { undone = true; return nil },
	}
	s := store.FlowStage(given, work, nil)
	if s.Point != "paid" || len(s.Next) != 1 || !s.NoReturn || s.Work == nil || s.Reconcile == nil {
		t.Errorf("the stage is %+v", s)
	}
	if err := s.Compensate(t.Context(), nil); err != nil || !undone {
		t.Errorf("without an undo, Compensate is replaced: %v", err)
	}
	if s := store.FlowStage(redisidem.FlowStage{Point: "paid"}, work, nil); s.Compensate != nil {
		t.Error("a stage that is not undone has a Compensate")
	}
	if s := store.FlowStage(redisidem.FlowStage{Point: "paid"}, nil, nil); s.Work != nil {
		t.Error("a stage without work is accepted by NewFlow")
	}
}
