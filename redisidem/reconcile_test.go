package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestReconcileWithoutAnOutcomeKeepsTheKey checks that the key stays, since the outcome of the
// attempt is still unknown, and that the attempt counts, so that completers do not ask for ever.
func TestReconcileWithoutAnOutcomeKeepsTheKey(t *testing.T) {
	failure := errors.New("no answer")
	for name, reconciled := range map[string]redisidem.Outcome{"the zero Outcome": {}, "NothingDone": redisidem.NothingDone()} {
		for _, canceled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, canceled %t", name, canceled), func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					sc := b.service(redisidem.Config{}).Scope("a")
					flow := mustFlow(t, redisidem.FlowConfig{Name: "one", Version: 1, Stages: []redisidem.FlowStage{{
						Point:     redisidem.Started,
						Work:      fails(failure),
						Reconcile: outcome(reconciled),
					}}})
					_, err := sc.DoFlow(ctx, "k", request, flow)
					mustBe(t, err, failure)
					if canceled {
						mustBe(t, sc.Cancel(ctx, "k"), nil)
					}
					for attempt := 2; attempt <= 3; attempt++ {
						key, err := sc.DoFlow(ctx, "k", request, flow)
						mustBe(t, err, redisidem.ErrOutcomeUnknown)
						mustBe(t, err, redisidem.ErrInvalid)
						if key.Finished() || key.Attempts != attempt {
							t.Errorf("finished: %t, after %d attempts: want %d", key.Finished(), key.Attempts, attempt)
						}
					}
				})
			})
		}
	}
}

func TestReconcileIsAskedAboutAnEarlierAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var runs, asked int
		var answer redisidem.StageFunc
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				if st.Attempt() == 1 {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
			c.Stages[2].Reconcile = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				asked++
				return answer(ctx, st)
			}
		}))
		for _, c := range []struct {
			name   string
			answer redisidem.StageFunc
			err    error
			runs   int
		}{
			{"done", outcome(redisidem.Next()), nil, 1},
			{"not done", fails(redisidem.ErrNothingDone), nil, 2},
			{"wrapped not done", fails(fmt.Errorf("provider: %w", redisidem.ErrNothingDone)), nil, 2},
			{"unknown", fails(errStage), redisidem.ErrOutcomeUnknown, 1},
			{"panic", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("boom") }, redisidem.ErrOutcomeUnknown, 1},
		} {
			runs, asked, answer = 0, 0, c.answer
			_, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, errStage)
			if asked != 0 {
				b.Errorf("%s: Reconcile is asked about the first attempt", c.name)
			}
			key, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, c.err)
			if runs != c.runs || asked != 1 || key.Finished() != (c.err == nil) {
				b.Errorf("%s: %d runs, asked %d times, %+v", c.name, runs, asked, key)
			}
			if c.err != nil && (key.RecoveryPoint != "paid" || key.Revision != 2) {
				b.Errorf("%s: the key has not stayed: %+v", c.name, key)
			}
			if c.name == "panic" && !strings.Contains(err.Error(), "boom") {
				b.Errorf("the error does not contain the panic: %v", err)
			}
		}
	})
}
