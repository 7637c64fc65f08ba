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

// TestReconcileWithoutAnOutcomeKeepsTheKey checks that the key stays, since the outcome of the
// attempt is still unknown.
func TestReconcileWithoutAnOutcomeKeepsTheKey(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		failure := errors.New("no answer")
		flow := mustFlow(t, redisidem.FlowConfig{Name: "one", Version: 1, Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, failure
			},
			Reconcile: outcome(redisidem.Outcome{}),
		}}})
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, failure)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
		mustBe(t, err, redisidem.ErrInvalid)
		if key.Finished() {
			t.Error("the key is finished")
		}
	})
}

// TestStageThatNamesItselfIsNotLimited has a stage that processes a list.
func TestStageThatNamesItselfIsNotLimited(t *testing.T) {
	inBubble(t, func(b *bubble) {
		client := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Next = []string{"taxed", "paid"}
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch {
				case client:
					return redisidem.Outcome{}, errStage
				case st.Key().Revision < 40:
					return redisidem.Advance("taxed"), nil
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		client = false
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

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

func TestStageIsRetriedWithinOneRun(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		permanent := errors.New("never")
		for _, c := range []struct {
			name      string
			retry     redisidem.Retry
			reconcile redisidem.StageFunc
			err       error
			runs      int
			least     time.Duration
		}{
			{"no policy", redisidem.Retry{}, nil, errStage, 1, 0},
			{"three", redisidem.Retry{Attempts: 3, Backoff: time.Second}, nil, errStage, 3, 1500 * time.Millisecond},
			{"enough", redisidem.Retry{Attempts: 5, Backoff: time.Second, MaxBackoff: 2 * time.Second}, nil, nil, 4, 2500 * time.Millisecond},
			{"not this error", redisidem.Retry{Attempts: 5, If: func(err error) bool { return !errors.Is(err, permanent) }}, nil, permanent, 1, 0},
			{"unknown", redisidem.Retry{Attempts: 5}, nil, redisidem.ErrOutcomeUnknown, 1, 0},
			{"unknown, but it can be asked", redisidem.Retry{Attempts: 5}, fails(redisidem.ErrNothingDone), nil, 4, 0},
		} {
			runs := 0
			flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
				s := &cfg.Stages[1]
				s.Retry, s.Reconcile = c.retry, c.reconcile
				s.Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					runs++
					if st.Attempt() != runs {
						b.Errorf("%s: run %d is attempt %d, want %v", c.name, runs, st.Attempt(), runs)
					}
					switch {
					case runs == 4:
						return redisidem.Next(), nil
					case strings.HasPrefix(c.name, "unknown"):
						return redisidem.Outcome{}, fmt.Errorf("timeout: %w", redisidem.ErrOutcomeUnknown)
					case errors.Is(c.err, permanent):
						return redisidem.Outcome{}, permanent
					}
					return redisidem.Outcome{}, errStage
				}
			}))
			began := time.Now()
			key, err := sc.DoFlow(ctx, c.name, request, flow)
			mustBe(b, err, c.err)
			if err == nil {
				again, err := sc.Retrieve(ctx, c.name)
				mustBe(b, err, nil)
				if key.Journal[1].Attempt != runs || again.Journal[1].Attempt != runs || again.Journal[2].Attempt != 1 {
					b.Errorf("%s: the journal is %+v, then %+v", c.name, key.Journal, again.Journal)
				}
			}
			if took := time.Since(began); runs != c.runs || took < c.least || took > c.least*2+time.Second {
				b.Errorf("%s: %d runs in %v, want %d in at least %v", c.name, runs, took, c.runs, c.least)
			}
		}
	})
}

// TestStageIsRetriedAfterAnUnknownCommitOfAnotherKey has a stage that uses another key, whose first
// commit gets no answer. That call is safe to repeat, so the stage runs again.
func TestStageIsRetriedAfterAnUnknownCommitOfAnotherKey(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "warm up", request, finish("the server knows the scripts"))
		mustBe(b, err, nil)
		runs := 0
		flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
			cfg.Stages[1].Retry = redisidem.Retry{Attempts: 3, Backoff: time.Second}
			cfg.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				_, err := sc.Do(ctx, "other", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					if runs == 1 {
						b.mute()
						time.AfterFunc(2*redisidem.DefaultTimeout, b.thaw)
					}
					return redisidem.Finish(redisidem.JSON(200, "other")), nil
				})
				if runs == 1 {
					mustBe(b, err, redisidem.ErrOutcomeUnknown)
				}
				return redisidem.Next(), err
			}
		}))
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if runs != 2 || !key.Finished() {
			b.Errorf("%d runs, and the key is at %q, want 2 runs of a finished key", runs, key.RecoveryPoint)
		}
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

func TestTimeoutEndsAStagesContext(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		began := time.Now()
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Timeout = 3 * time.Second
			c.Stages[1].Retry.Attempts = 2
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				<-ctx.Done()
				return redisidem.Outcome{}, ctx.Err()
			}
		})))
		mustBe(b, err, context.DeadlineExceeded)
		if took := time.Since(began); took < 6*time.Second || took > 7*time.Second {
			b.Errorf("two runs of 3 s took %v, want %v to %v", took, 6*time.Second, 7*time.Second)
		}
	})
}

func TestPanicOfAStagePropagatesAndAbandonsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { panic("boom") }
		}))
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					b.Errorf("recovered %v, want %q", v, "boom")
				}
			}()
			_, _ = sc.DoFlow(ctx, "k", request, flow)
		}()
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
		if !key.Finished() || key.Journal[1].Attempt != 2 {
			b.Errorf("the key is %+v", key)
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

func TestValueThatPanicsWhenEncodedAbandonsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Next().WithState(explosive{}))
		}))
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					b.Errorf("recovered %v, want %q", v, "boom")
				}
			}()
			_, _ = sc.DoFlow(ctx, "k", request, flow)
		}()
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
	})
}

func TestTimeoutBoundsEachRun(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		failed := false
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			s := &c.Stages[1]
			s.Timeout = 3 * time.Second
			s.Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				if !failed {
					failed = true
					return redisidem.Outcome{}, errStage
				}
				time.Sleep(2 * time.Second)
				return redisidem.Next(), ctx.Err()
			}
			s.Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(2 * time.Second)
				return redisidem.Outcome{}, redisidem.ErrNothingDone
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
	})
}

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

func TestTrapS3UnknownPointIsATypedError(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("point of route A")))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "route B", func() {
			_, err := drive(sc, "k", otherRequests["path"], map[string]redisidem.StageFunc{"point of route A": never(t)})
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, map[string]redisidem.StageFunc{})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
	})
}

func TestTrapS14PointOfANewerProgramIsNotPoisoned(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("new in version 2").WithState(1)))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "a program that does not know the point", func() {
			_, err := drive(sc, "k", request, map[string]redisidem.StageFunc{redisidem.Started: never(t)})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		_, _, err = redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (int, error) {
			t.Error("the callback ran")
			return 0, nil
		})
		mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		mustStandAt(t, start(t, sc, "k"), "new in version 2", 1)
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"new in version 2": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
		e.mustBeTidy(e.client())
	})
}
