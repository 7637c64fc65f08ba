//go:build unix

package crash

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/history"
)

// completerContext is the context key under which stages that a completer runs find their worker.
type completerContext struct{}

// complete lets a completer look for keys all the time.
func (w *worker) complete() {
	for {
		_, _ = w.look()
		time.Sleep(recoverAfter)
	}
}

// look lets a completer look for keys once.
func (w *worker) look() (redisidem.Swept, error) {
	c, err := redisidem.NewCompleter(w.svc, flow)
	if err != nil {
		return redisidem.Swept{}, err
	}
	return c.Sweep(context.WithValue(context.Background(), completerContext{}, w))
}

// runOf names a run of a callback.
type runOf struct {
	key             string
	fence, revision int64
}

// sweep is a stage that a completer runs. Nobody is told what becomes of it but the observer.
func (w *worker) sweep(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	u := &usage{worker: w, dwell: rand.N(5 * time.Millisecond), fails: rand.IntN(12) == 0}
	outcome, err := u.work(ctx, st)
	if err != nil {
		w.tell(u.last.As(history.GaveUp))
	} else {
		w.swept.Store(runOf{st.Key().ID(), u.last.Fence, u.last.Revision}, u.last)
	}
	return outcome, err
}

// Observe tells what becomes of the stages that a completer has run.
func (w *worker) Observe(_ context.Context, e redisidem.Event) {
	run, kind := runOf{e.Key, e.Fence, e.Revision}, history.Kind("")
	switch {
	case e.Kind == redisidem.Committed:
		run.revision--
		kind = history.Committed
	case e.Kind == redisidem.Lost && errors.Is(e.Err, redisidem.ErrFenced):
		kind = history.Fenced
	default:
		return
	}
	if last, ok := w.swept.LoadAndDelete(run); ok {
		w.tell(last.(history.Event).As(kind))
	}
}
