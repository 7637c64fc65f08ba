package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestEndlessFlowIsStopped(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		visits := 0
		work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			visits++
			return redisidem.Advance(map[string]string{"taxed": "paid", "paid": "taxed"}[st.Key().RecoveryPoint]), nil
		}
		key, err := sc.DoFlow(ctx, "ring", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work, c.Stages[1].MaxVisits = work, 3
			c.Stages[2].Work, c.Stages[2].Next = work, []string{"taxed", "ordered"}
		})))
		mustBe(b, err, redisidem.ErrNoProgress)
		if visits != 6 || key.RecoveryPoint != "taxed" || !strings.Contains(err.Error(), `"taxed"`) {
			b.Errorf("%d visits, %v, %+v", visits, err, key)
		}

		// A stage may return to its own point only if its configuration says so.
		own := func(c *redisidem.FlowConfig) { c.Stages[1].Work = outcome(redisidem.Advance("taxed")) }
		_, err = sc.DoFlow(ctx, "own", request, mustFlow(b, cart(own)))
		mustBe(b, err, redisidem.ErrNoProgress)
		left := 3
		key, err = sc.DoFlow(ctx, "cursor", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Next = []string{"taxed", "paid"}
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				left--
				if left > 0 {
					return redisidem.Advance("taxed").WithState(left), nil
				}
				return redisidem.Next(), nil
			}
		})))
		mustBe(b, err, nil)
		if !key.Finished() || key.Revision != 6 {
			b.Errorf("the cursor ends with %+v", key)
		}

		_, err = sc.DoFlow(ctx, "astray", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Advance("ordered"))
		})))
		mustBeInvalid(b, err, "Outcome.RecoveryPoint", `"ordered"`, `"taxed"`)
		_, err = sc.DoFlow(ctx, "beyond", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) { c.Stages[3].Work = next })))
		mustBeInvalid(b, err, "Outcome", "last stage")
		_, err = sc.Do(ctx, "no flow", request, next)
		mustBeInvalid(b, err, "Outcome", "Next")
	})
}

func TestStateOfAFlowKeepsEmptyValues(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for i, v := range []any{nil, 0, false, "", []byte{}, []byte("\x00\xff")} {
			var seen any
			_, err := sc.DoFlow(ctx, fmt.Sprint(i), request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				c.Stages[0].Work = outcome(redisidem.Next().WithState(v))
				c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					var raw []byte
					if _, bytes := v.([]byte); bytes {
						err := st.State(&raw)
						seen = raw
						return redisidem.Next(), err
					}
					return redisidem.Next(), st.State(&seen)
				}
			})))
			mustBe(b, err, nil)
			if want := fmt.Sprint(v); fmt.Sprint(seen) != want {
				b.Errorf("state %q arrives as %v", want, seen)
			}
		}
		// State that no longer decodes fails the stage, and the key stays.
		key, err := sc.DoFlow(ctx, "changed", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = outcome(redisidem.Next().WithState("text"))
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				var n int
				return redisidem.Next(), st.State(&n)
			}
		})))
		if err == nil || key.RecoveryPoint != "taxed" || !strings.Contains(err.Error(), "state left by an earlier stage") {
			b.Errorf("error is %v, key %+v", err, key)
		}
	})
}

func TestInterimAnswerKeepsTheFlowOpen(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		confirmed := false
		flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					// It goes back to an earlier point: the tax may change meanwhile.
					return redisidem.Interim("taxed", redisidem.JSON(202, "please confirm")), nil
				}
				return redisidem.Next(), nil
			}
		}))
		sc := e.service().Scope("a")
		for range 2 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(t, err, nil)
			if !key.Answered() || key.Finished() || key.Response.Code != 202 || key.RecoveryPoint != "taxed" {
				t.Errorf("the interim answer is %+v", key)
			}
		}
		confirmed = true
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		if !key.Finished() || string(key.Response.Body) != `"done"` || key.Replayed() {
			t.Errorf("the answer is %+v", key)
		}
		e.mustBeTidy(e.client())
	})
}

func TestStageWithNothingDoneChangesNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		ready := false
		var attempts []int
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Reconcile = fails(errors.New("reconcile was asked"))
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				attempts = append(attempts, st.Attempt())
				if !ready {
					return redisidem.NothingDone(), nil
				}
				return redisidem.Next(), nil
			}
		}))
		for range 2 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			if key.Answered() || key.RecoveryPoint != "taxed" || key.Revision != 1 {
				b.Errorf("the idle key is %+v", key)
			}
		}
		ready = true
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || !slices.Equal(attempts, []int{1, 1, 1}) {
			b.Errorf("attempts %v, key %+v", attempts, key)
		}

		key, err = sc.Do(ctx, "stage", request, outcome(redisidem.NothingDone()))
		mustBe(b, err, nil)
		if key.Answered() || key.Revision != 0 {
			b.Errorf("the idle key is %+v", key)
		}
		lease, err := sc.Lock(ctx, "stage")
		mustBe(b, err, nil)
		_, err = lease.Commit(ctx, redisidem.NothingDone())
		mustBeInvalid(b, err, "Outcome", "Abandon")
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

// TestNothingDoneAfterAFailureIsAnAttempt lets a stage fail, and have nothing done when it is
// retried. The outcome of the first run is still unknown.
func TestNothingDoneAfterAFailureIsAnAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var did []string
		results := []redisidem.StageFunc{fails(errStage), outcome(redisidem.NothingDone()), outcome(redisidem.NothingDone()), next}
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			s := &c.Stages[1]
			s.Retry.Attempts = 2
			s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				did = append(did, fmt.Sprint("work ", st.Attempt()))
				work := results[0]
				results = results[1:]
				return work(ctx, st)
			}
			s.Reconcile = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				did = append(did, fmt.Sprint("ask ", st.Attempt()))
				return redisidem.Outcome{}, redisidem.ErrNothingDone
			}
		}))
		for range 3 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
		}
		if want := []string{"work 1", "ask 2", "work 2", "ask 2", "work 2", "ask 2", "work 2"}; !slices.Equal(did, want) {
			b.Errorf("it did %q, want %q", did, want)
		}
	})
}

func TestLostLeaseStopsTheFlow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		mine, other := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		ran := false
		key, err := mine.DoFlow(ctx, "k", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(b, other.Unlock(ctx, "k"), nil)
				return redisidem.Next(), nil
			}
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				ran = true
				return redisidem.Next(), nil
			}
		})))
		mustBe(b, err, redisidem.ErrFenced)
		if ran || key.Revision != 1 {
			b.Errorf("ran on: %v, %+v", ran, key)
		}
		key, err = other.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
		if !key.Finished() || len(key.Journal) != 4 {
			b.Errorf("the key is %+v", key)
		}
	})
}

// explosive is a value that panics when it is encoded.
type explosive struct{}

func TestFlowHeldTooLongReportsErrMaxHold(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxHold: 30 * time.Second}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Minute)
				return redisidem.Next(), nil
			}
		}))
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrMaxHold)
		if key.RecoveryPoint != "paid" {
			b.Errorf("the key is at %q, want %q", key.RecoveryPoint, "paid")
		}
	})
}
