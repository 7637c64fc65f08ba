package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
)

// Completer creates a completer of the worker's keys.
func (w *Worker) Completer(svc *redisidem.Service) *redisidem.Completer {
	c, err := redisidem.NewCompleter(svc, []*redisidem.Flow{w.flow()}, nil)
	if err != nil {
		panic(err)
	}
	return c
}

// runOf identifies a run of a callback.
type runOf struct {
	key             string
	fence, revision int64
}

// sweep is a stage that a completer runs. Only the observer receives its outcome.
func (w *Worker) sweep(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	u := &usage{worker: w, Use: Use{Key: st.Key().Value, Dwell: rand.N(5 * time.Millisecond), Fails: rand.IntN(12) == 0}}
	outcome, err := u.work(ctx, st)
	if err != nil {
		w.Tell(u.last.As(history.GaveUp))
	} else {
		w.swept.Store(runOf{st.Key().ID(), u.last.Fence, u.last.Revision}, u.last)
	}
	return outcome, err
}

// Observe reports the outcome of the stages that a completer has run.
func (w *Worker) Observe(_ context.Context, e redisidem.Event) {
	run := runOf{e.Key, e.Fence, e.Revision}
	var kind history.Kind
	switch {
	case e.Kind == redisidem.EventCommitted:
		run.revision--
		kind = history.Committed
	case e.Kind == redisidem.EventLeaseLost && errors.Is(e.Err, redisidem.ErrFenced):
		kind = history.Fenced
	case e.Kind == redisidem.EventOutcomeUnknown:
		kind = history.Unknown
	default:
		return
	}
	if last, ok := w.swept.LoadAndDelete(run); ok {
		w.Tell(last.(history.Event).As(kind))
	}
}
