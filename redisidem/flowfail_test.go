package redisidem_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// timed is a flow with a deadline of an hour, whose compensations are recorded in done.
func timed(done *[]string, change ...func(*redisidem.FlowConfig)) redisidem.FlowConfig {
	return undoing(done, append([]func(*redisidem.FlowConfig){recoverable, func(c *redisidem.FlowConfig) {
		c.Deadline = time.Hour
		c.Stages[3].Work = last
		c.FailWith = func(st *redisidem.Stage, cause error) redisidem.Response {
			return redisidem.JSON(410, st.Key().RecoveryPoint+": "+redisidem.Reason(cause))
		}
	}}, change...)...)
}

// waitsAt makes a stage wait for a customer who never comes.
func waitsAt(i int) func(*redisidem.FlowConfig) {
	return func(c *redisidem.FlowConfig) {
		c.Stages[i].Work = outcome(redisidem.Snooze(10*time.Hour, pending).UntilCalled())
	}
}

// failures records the events of flows that were failed.
type failures struct {
	mu     sync.Mutex
	events []redisidem.Event
}

func (f *failures) Observe(_ context.Context, e redisidem.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Kind == redisidem.EventFailed || e.Kind == redisidem.EventDeadLettered {
		f.events = append(f.events, e)
	}
}

// mustBe checks the only event.
func (f *failures) mustBe(t testing.TB, kind redisidem.EventKind, stage string, cause error) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) != 1 {
		t.Errorf("the events are %+v", f.events)
		return
	}
	if e := f.events[0]; e.Kind != kind || e.Stage != stage || e.Scope != "a" || e.Flow != "cart/1" || cause != nil && !errors.Is(e.Err, cause) {
		t.Errorf("the event is %+v", e)
	}
}

func TestDeadlineFailsAFlow(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*redisidem.FlowConfig)
		client bool     // not a completer comes
		undone []string // in the order of their compensation
		answer string
	}{
		{"waiting", waitsAt(2), false, []string{"paid", "taxed", redisidem.Started}, `"paid: deadline"`},
		{"the client comes", waitsAt(2), true, []string{"paid", "taxed", redisidem.Started}, `"paid: deadline"`},
		{"an interim answer", func(c *redisidem.FlowConfig) {
			c.InterimFor = 5 * time.Hour
			c.Stages[2].Work = outcome(redisidem.Interim("paid", pending))
		}, false, []string{"paid", "taxed", redisidem.Started}, `"paid: deadline"`},
		{"snoozed", func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = outcome(redisidem.Snooze(10*time.Hour, pending))
		}, false, []string{"paid", "taxed", redisidem.Started}, `"paid: deadline"`},
		{"failing", func(c *redisidem.FlowConfig) {
			c.RecoverAfter = 50 * time.Minute
			c.Stages[2].Work = fails(errStage)
		}, false, []string{"taxed", redisidem.Started}, `"paid: deadline"`},
		{"failing, and it is compensated itself", func(c *redisidem.FlowConfig) {
			c.Stages[2].Work, c.Stages[2].CompensateFailed = fails(errStage), true
		}, true, []string{"paid", "taxed", redisidem.Started}, `"paid: deadline"`},
		{"the work was done", func(c *redisidem.FlowConfig) {
			c.Stages[2].Work, c.Stages[2].Reconcile = fails(errStage), next
		}, true, []string{"paid", "taxed", redisidem.Started}, `"ordered: deadline"`},
		{"the work was not done", func(c *redisidem.FlowConfig) {
			c.Stages[2].Work, c.Stages[2].Reconcile, c.Stages[2].CompensateFailed = fails(errStage), fails(redisidem.ErrNothingDone), true
		}, true, []string{"taxed", redisidem.Started}, `"paid: deadline"`},
		{"the point of no return", func(c *redisidem.FlowConfig) {
			c.Stages[1].NoReturn = true
			waited := false
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !waited {
					waited = true
					return redisidem.Snooze(2*time.Hour, pending), nil
				}
				return redisidem.Next(), nil
			}
		}, false, nil, `"done"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				flow := mustFlow(b, timed(&undone, c.change))
				events := &failures{}
				svc := b.service(redisidem.Config{Observer: events})
				sc := svc.Scope("a")
				key, err := sc.DoFlow(ctx, "k", request, flow)
				if err != nil && !errors.Is(err, errStage) {
					b.Fatal(err)
				}
				completer := mustCompleter(b, svc, flow)
				if err == nil {
					time.Sleep(time.Hour - time.Second - time.Since(key.CreatedAt))
					mustSweep(b, completer, redisidem.SweepResult{})
					time.Sleep(2 * time.Second)
				} else {
					time.Sleep(time.Hour + time.Second)
				}
				switch {
				case c.client:
					_, err = sc.DoFlow(ctx, "k", request, flow)
					mustBe(b, err, nil)
				case c.undone == nil:
					mustSweep(b, completer, redisidem.SweepResult{})
					time.Sleep(time.Hour)
					mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
				default:
					mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
				}
				key, err = sc.DoFlow(ctx, "k", request, flow)
				mustBe(b, err, nil)
				mustHold(b, key, c.answer)
				if !slices.Equal(undone, c.undone) {
					b.Errorf("undone %q, want %q", undone, c.undone)
				}
				if c.undone != nil {
					stage := "paid"
					if c.answer == `"ordered: deadline"` {
						stage = "ordered"
					}
					events.mustBe(b, redisidem.EventFailed, stage, redisidem.ErrDeadline)
				}
			})
		})
	}
}

// TestDeadlineEndsARunningStage checks that the context of a stage ends, and what follows.
func TestDeadlineEndsARunningStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		obeys := true
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Hour): // the lease has no bound
				}
				mustBe(b, context.Cause(ctx), redisidem.ErrDeadline)
				if obeys {
					return redisidem.Outcome{}, ctx.Err()
				}
				return redisidem.Next(), nil
			}
			c.FailWith = nil
		}))
		sc := b.service(redisidem.Config{MaxHold: -1}).Scope("a")
		began := time.Now()
		key, err := sc.DoFlow(ctx, "obeys", request, flow)
		mustBe(b, err, nil)
		if key.Response.Code != 504 || !slices.Equal(undone, []string{redisidem.Started}) || time.Since(began) != time.Hour {
			b.Errorf("after %v %+v, undone %q", time.Since(began), key.Response, undone)
		}
		// An outcome that comes late is committed, and undone.
		obeys, undone = false, nil
		key, err = sc.DoFlow(ctx, "stubborn", request, flow)
		mustBe(b, err, nil)
		if key.Response.Code != 504 || !slices.Equal(undone, []string{"taxed", redisidem.Started}) {
			b.Errorf("%+v, undone %q", key.Response, undone)
		}
	})
}

// TestDeadlineIsNotForALostLease checks that a stage that returns after the deadline and after its
// lease does not fail the flow: another worker may have the key.
func TestDeadlineIsNotForALostLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		failed := 0
		var undone []string
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Deadline = 20 * time.Second
			c.FailWith = func(*redisidem.Stage, error) redisidem.Response { failed++; return redisidem.JSON(410, "late") }
			c.Stages[2].Work = func(stage context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				<-stage.Done()
				mustBe(b, sc.Unlock(ctx, "k"), nil)
				time.Sleep(svc.Config().Lease)
				return redisidem.Outcome{}, errStage
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrLeaseLost)
		if failed > 0 || len(undone) > 0 {
			b.Errorf("FailWith was called %d times; undone %q", failed, undone)
		}
	})
}

// TestDeadlineIsLookedAtAfterACrash has a worker that dies, whose key would be due after hours.
func TestDeadlineIsLookedAtAfterACrash(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) { c.RecoverAfter = 10 * time.Hour }))
		dead, svc := b.service(redisidem.Config{CommitRetry: -1}), b.service(redisidem.Config{})
		hung := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.RecoverAfter = 10 * time.Hour
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Minute) // it was renewed
				b.freeze()
				<-ctx.Done()
				return redisidem.Outcome{}, ctx.Err()
			}
		}))
		began := time.Now()
		_, err := dead.Scope("a").DoFlow(ctx, "k", request, hung)
		if err == nil {
			b.Error("the call was answered")
		}
		b.thaw()
		completer := mustCompleter(b, svc, flow)
		time.Sleep(time.Hour - time.Since(began) - time.Second)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(2 * time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if !slices.Equal(undone, []string{redisidem.Started}) {
			b.Errorf("undone %q", undone)
		}
	})
}

// TestDeadlineDoesNotHurryCompensations checks that a compensation that fails after the deadline is
// put off as usual.
func TestDeadlineDoesNotHurryCompensations(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		flow := mustFlow(b, timed(&undone, waitsAt(2), func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate = func(context.Context, *redisidem.Stage) error { return errStage }
			c.MaxAttempts = 3
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		time.Sleep(time.Hour + time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
		mustSweep(b, completer, redisidem.SweepResult{})
		for range 2 {
			time.Sleep(5 * time.Minute)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
		}
		time.Sleep(5 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
	})
}

func TestDeadlineOnServers(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		var undone []string
		flow := mustFlow(t, timed(&undone, waitsAt(2), func(c *redisidem.FlowConfig) { c.Deadline = 3 * time.Second }))
		svc := e.service()
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		completer := mustCompleter(t, svc, flow)
		until(t, "a completer fails the flow", func() bool {
			_, err := completer.Sweep(ctx)
			mustBe(t, err, nil)
			key, err := sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			return key.Finished()
		})
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		mustHold(t, key, `"paid: deadline"`)
	})
}

// TestRestingFlowIsScannedAtItsDeadline checks that a key is looked at in time although its flow
// rests.
func TestRestingFlowIsScannedAtItsDeadline(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		flow := mustFlow(b, timed(&undone, waitsAt(2), func(c *redisidem.FlowConfig) { c.Deadline = 10 * time.Second }))
		svc := b.service(redisidem.Config{})
		work, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second}, flow).Run(work)
		}()
		time.Sleep(5 * time.Second) // the flow rests
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		time.Sleep(13 * time.Second)
		synctest.Wait()
		if len(undone) != 3 {
			b.Errorf("undone %q", undone)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

func TestExhaustedAttempts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*redisidem.FlowConfig)
		undone []string
		answer string // "" for a dead letter
		cause  error
	}{
		{"dead letter", func(*redisidem.FlowConfig) {}, nil, "", nil},
		{"compensated", func(c *redisidem.FlowConfig) { c.Exhausted.Compensate = true }, []string{"taxed", redisidem.Started}, `"paid: exhausted"`, redisidem.ErrExhausted},
		{"with the stage's own", func(c *redisidem.FlowConfig) {
			c.Exhausted.Compensate, c.Stages[2].CompensateFailed = true, true
		}, []string{"paid", "taxed", redisidem.Started}, `"paid: exhausted"`, redisidem.ErrExhausted},
		{"a last stage", func(c *redisidem.FlowConfig) {
			c.Exhausted.Stage = "ordered"
		}, nil, `"done"`, redisidem.ErrExhausted},
		{"a last stage that fails", func(c *redisidem.FlowConfig) {
			c.Exhausted.Stage = "ordered"
			c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(500, "sorry")))
		}, []string{"paid", "taxed", redisidem.Started}, `"sorry"`, redisidem.ErrExhausted},
		{"Reconcile cannot decide", func(c *redisidem.FlowConfig) {
			c.Exhausted.Compensate, c.Stages[2].Reconcile = true, fails(errStage)
		}, nil, "", nil},
		{"point of no return", func(c *redisidem.FlowConfig) { c.Exhausted.Compensate, c.Stages[1].NoReturn = true, true }, nil, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				flow := mustFlow(b, timed(&undone, func(cfg *redisidem.FlowConfig) {
					cfg.Deadline, cfg.MaxAttempts = 0, 3
					cfg.Stages[2].Work = fails(errStage)
				}, c.change))
				events := &failures{}
				svc := b.service(redisidem.Config{Observer: events})
				sc := svc.Scope("a")
				_, err := sc.DoFlow(ctx, "k", request, flow)
				mustBe(b, err, errStage)
				completer := mustCompleter(b, svc, flow)
				var all redisidem.SweepResult
				for range 8 {
					time.Sleep(time.Hour)
					swept, err := completer.Sweep(ctx)
					mustBe(b, err, nil)
					all.Finished += swept.Finished
					all.DeadLettered += swept.DeadLettered
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if !slices.Equal(undone, c.undone) {
					b.Errorf("undone %q, want %q", undone, c.undone)
				}
				if c.answer == "" {
					if all.DeadLettered != 1 || key.DeadLetter == nil {
						b.Errorf("the sweeps did %+v", all)
					}
					events.mustBe(b, redisidem.EventDeadLettered, "paid", nil)
					return
				}
				mustHold(b, key, c.answer)
				events.mustBe(b, redisidem.EventFailed, "paid", c.cause)
			})
		})
	}
}

// TestClientsThatRetryOftenDoNotEndAFlow checks that a flow is failed however many attempts clients
// have made before a completer comes, and that its failing is still bounded.
func TestClientsThatRetryOftenDoNotEndAFlow(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*redisidem.FlowConfig)
		act    func(sc *redisidem.Scope) error
		answer string // "" for a dead letter
	}{
		{"exhausted", func(c *redisidem.FlowConfig) { c.Exhausted.Compensate = true }, nil, `"paid: exhausted"`},
		{"canceled", func(*redisidem.FlowConfig) {}, func(sc *redisidem.Scope) error { return sc.Cancel(ctx, "k") }, `"paid: canceled-key"`},
		{"late", func(c *redisidem.FlowConfig) { c.Deadline = 30 * time.Minute }, nil, `"paid: deadline"`},
		{"Reconcile cannot decide", func(c *redisidem.FlowConfig) {
			c.Exhausted.Compensate, c.Stages[2].Reconcile = true, fails(errStage)
		}, nil, ""},
		{"FailWith panics", func(c *redisidem.FlowConfig) {
			c.Exhausted.Compensate, c.FailWith = true, func(*redisidem.Stage, error) redisidem.Response { panic("no answer") }
		}, nil, ""},
		{"FailWith ends its goroutine", func(c *redisidem.FlowConfig) {
			c.Exhausted.Compensate, c.FailWith = true, func(*redisidem.Stage, error) redisidem.Response {
				runtime.Goexit()
				return redisidem.Response{}
			}
		}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				flow := mustFlow(b, timed(&undone, func(cfg *redisidem.FlowConfig) {
					cfg.Deadline, cfg.MaxAttempts, cfg.Stages[2].Work = 0, 2, fails(errStage)
				}, c.change))
				svc := b.service(redisidem.Config{})
				sc := svc.Scope("a")
				for range 9 {
					_, err := sc.DoFlow(ctx, "k", request, flow)
					mustBe(b, err, errStage)
				}
				if c.act != nil {
					mustBe(b, c.act(sc), nil)
				}
				var all redisidem.SweepResult
				for range 4 {
					time.Sleep(time.Hour)
					swept, err := mustCompleter(b, svc, flow).Sweep(ctx)
					mustBe(b, err, nil)
					all.Finished += swept.Finished
					all.DeadLettered += swept.DeadLettered
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if c.answer == "" {
					if all.DeadLettered != 1 || key.DeadLetter == nil {
						b.Errorf("the sweeps did %+v", all)
					}
					return
				}
				if !key.Finished() {
					b.Fatalf("the sweeps did %+v: %+v", all, key.DeadLetter)
				}
				mustHold(b, key, c.answer)
			})
		})
	}
}

// TestFlowThatCannotBeUndoneBecomesADeadLetter removes a stage from the program that was committed
// and has to be compensated. A completer fails the flow once, and no more.
func TestFlowThatCannotBeUndoneBecomesADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		change := func(cfg *redisidem.FlowConfig) {
			cfg.Deadline, cfg.MaxAttempts, cfg.Stages[2].Work, cfg.Exhausted.Compensate = 0, 2, fails(errStage), true
		}
		flow := mustFlow(b, timed(&undone, change))
		without := mustFlow(b, timed(&undone, change, func(cfg *redisidem.FlowConfig) { cfg.Stages[1].Point = "renamed" }))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for range 9 {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, errStage)
		}
		mustFailOnce(b, svc, without)
	})
}

// mustFailOnce sweeps until the key "k" is a dead letter, which it must be after one run.
func mustFailOnce(b *bubble, svc *redisidem.Service, flow *redisidem.Flow) {
	b.Helper()
	before, err := svc.Scope("a").Retrieve(ctx, "k")
	mustBe(b, err, nil)
	for range 4 {
		time.Sleep(time.Hour)
		_, err := mustCompleter(b, svc, flow).Sweep(ctx)
		mustBe(b, err, nil)
	}
	key, err := svc.Scope("a").Retrieve(ctx, "k")
	mustBe(b, err, nil)
	if key.DeadLetter == nil || key.Attempts > before.Attempts+1 {
		b.Errorf("dead letter %+v after %d further attempts", key.DeadLetter, key.Attempts-before.Attempts)
	}
}

// TestLastAttemptWithoutAFailureIsNoReasonForADeadLetter checks that the flow is failed also when
// the last attempt of a client has left no failure: the key was canceled meanwhile, or failures are
// discarded. An attempt that ended its process is the exception.
func TestLastAttemptWithoutAFailureIsNoReasonForADeadLetter(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    redisidem.Config
		cancel bool
		dies   bool
	}{
		"canceled during the attempt": {cancel: true},
		"discarded":                   {cfg: redisidem.Config{DiscardFailures: true}},
		"it died":                     {dies: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				svc := b.service(c.cfg)
				sc, runs := svc.Scope("a"), 0
				flow := mustFlow(b, timed(&undone, func(cfg *redisidem.FlowConfig) {
					cfg.Deadline, cfg.MaxAttempts, cfg.Exhausted.Compensate = 0, 2, !c.cancel
					cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						runs++
						if runs == 9 && c.cancel {
							mustBe(b, sc.Cancel(ctx, "k"), nil)
						}
						return redisidem.Outcome{}, errStage
					}
				}))
				for range 9 {
					_, err := sc.DoFlow(ctx, "k", request, flow)
					if err == nil {
						b.Fatal("the stage has not failed")
					}
				}
				if c.dies {
					short := b.service(redisidem.Config{MaxHold: time.Millisecond}) // no renewals
					lease, err := short.Scope("a").Lock(ctx, "k")
					mustBe(b, err, nil)
					for range 3 {
						time.Sleep(time.Hour)
						_, err := mustCompleter(b, svc, flow).Sweep(ctx)
						mustBe(b, err, nil)
					}
					key, err := sc.Retrieve(ctx, "k")
					mustBe(b, err, nil)
					if key.DeadLetter == nil || key.Attempts != lease.Key().Attempts {
						b.Errorf("dead letter %+v after %d attempts", key.DeadLetter, key.Attempts)
					}
					_ = lease.Abandon(ctx)
					return
				}
				for range 2 {
					time.Sleep(time.Hour)
					_, err := mustCompleter(b, svc, flow).Sweep(ctx)
					mustBe(b, err, nil)
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				if !key.Finished() || len(undone) != 2 {
					b.Errorf("at %q, undone %q, dead letter %+v", key.RecoveryPoint, undone, key.DeadLetter)
				}
			})
		})
	}
}

// TestExhaustedLastStage checks that a last stage that fails, too, ends in a dead letter.
func TestExhaustedLastStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts, c.Exhausted.Stage = 2, "sorry"
			c.Stages[2].Work = fails(errStage)
			c.Stages = append(c.Stages, redisidem.FlowStage{Point: "sorry", Work: fails(errStage)})
			c.Stages[3].Next = []string{redisidem.Finished}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		dead := int64(0)
		for range 6 {
			time.Sleep(time.Hour)
			swept, err := mustCompleter(b, svc, flow).Sweep(ctx)
			mustBe(b, err, nil)
			dead += swept.DeadLettered
		}
		key, err := svc.Scope("a").Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if dead != 1 || key.RecoveryPoint != "sorry" || key.DeadLetter == nil {
			b.Errorf("%d dead letters, the key is at %q", dead, key.RecoveryPoint)
		}
	})
}

// TestExhaustedLastStageAsksReconcileBefore has a last stage for a stage whose attempts are used
// up, which may have done its work.
func TestExhaustedLastStageAsksReconcileBefore(t *testing.T) {
	for name, c := range map[string]struct {
		found  redisidem.StageFunc
		answer string // "" for a dead letter
	}{
		"done":       {next, `"done"`},
		"not done":   {fails(redisidem.ErrNothingDone), `"sorry"`},
		"undecided":  {fails(errStage), ""},
		"no such ID": {nil, `"sorry"`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				flow := mustFlow(b, cart(recoverable, func(c2 *redisidem.FlowConfig) {
					c2.MaxAttempts, c2.Exhausted.Stage = 2, "sorry"
					c2.Stages[2].Work, c2.Stages[2].Reconcile = fails(errStage), c.found
					c2.Stages[3].Next = []string{redisidem.Finished}
					c2.Stages = append(c2.Stages, redisidem.FlowStage{Point: "sorry", Work: finish("sorry")})
				}))
				svc := b.service(redisidem.Config{})
				// Reconcile is asked from the second attempt on, so the first flow has none.
				_, err := svc.Scope("a").DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, failsAt("paid"))))
				mustBe(b, err, errStage)
				_, err = svc.Scope("a").DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable, failsAt("paid"))))
				mustBe(b, err, errStage)
				for range 6 {
					time.Sleep(time.Hour)
					_, err := mustCompleter(b, svc, flow).Sweep(ctx)
					mustBe(b, err, nil)
				}
				key, err := svc.Scope("a").Retrieve(ctx, "k")
				mustBe(b, err, nil)
				switch {
				case c.answer != "" && key.Finished():
					mustHold(b, key, c.answer)
				case c.answer != "" || key.DeadLetter == nil || key.RecoveryPoint != "paid":
					b.Errorf("the key is at %q, dead letter %+v", key.RecoveryPoint, key.DeadLetter)
				}
			})
		})
	}
}

// TestFailedStageIsCompensated checks CompensateFailed for a stage that returns Fail.
func TestFailedStageIsCompensated(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		var undone []string
		flow := mustFlow(t, undoing(&undone, func(c *redisidem.FlowConfig) { c.Stages[3].CompensateFailed = true }))
		key, err := e.service().Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		if want := []string{"ordered", "paid", "taxed", redisidem.Started}; !slices.Equal(undone, want) || key.Response.Code != 402 {
			t.Errorf("undone %q, want %q; the answer is %+v", undone, want, key.Response)
		}
	})
}

func TestInvalidEndsOfFlowsAreRefused(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*redisidem.FlowConfig){
		"FlowConfig.Deadline":        func(c *redisidem.FlowConfig) { c.Deadline = time.Microsecond },
		"FlowConfig.Exhausted":       func(c *redisidem.FlowConfig) { c.Exhausted = redisidem.Exhausted{Compensate: true, Stage: "paid"} },
		"FlowConfig.Exhausted.Stage": func(c *redisidem.FlowConfig) { c.Exhausted.Stage = "nowhere" },
		"FlowConfig.Stages[1].CompensateFailed": func(c *redisidem.FlowConfig) {
			c.Stages[1].CompensateFailed = true
		},
	} {
		_, err := redisidem.NewFlow(cart(change))
		mustBeInvalid(t, err, field)
	}
}

// TestExhaustedStageBehindThePointOfNoReturnIsRefused checks the flows whose journal cannot tell
// whether the point of no return was passed or its attempts were used up.
func TestExhaustedStageBehindThePointOfNoReturnIsRefused(t *testing.T) {
	t.Parallel()
	atPaid := func(next ...string) func(*redisidem.FlowConfig) {
		return func(c *redisidem.FlowConfig) {
			c.Exhausted.Stage, c.Stages[2].NoReturn, c.Stages[2].Next = "ordered", true, next
		}
	}
	_, err := redisidem.NewFlow(cart(atPaid())) // by default the next stage
	mustBeInvalid(t, err, "FlowConfig.Exhausted.Stage")
	_, err = redisidem.NewFlow(cart(atPaid(redisidem.Finished, "ordered")))
	mustBeInvalid(t, err, "FlowConfig.Exhausted.Stage")
	_, err = redisidem.NewFlow(cart(atPaid(redisidem.Finished)))
	mustBe(t, err, nil)
	for range 20 { // of several such stages, the error names the first one
		_, err = redisidem.NewFlow(cart(atPaid(), func(c *redisidem.FlowConfig) {
			c.Stages[1].NoReturn, c.Stages[1].Next = true, []string{"paid", "ordered"}
		}))
		mustBeInvalid(t, err, "FlowConfig.Exhausted.Stage", `"taxed"`)
	}
}

// TestDeadlineOfAnotherFlowIsNone has a stage that runs another flow, without a deadline, until its
// own deadline.
func TestDeadlineOfAnotherFlowIsNone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		sc := b.service(redisidem.Config{MaxHold: 5 * time.Hour}).Scope("a")
		inner := mustFlow(b, undoing(&undone, func(c *redisidem.FlowConfig) {
			c.Name = "inner"
			c.Stages[2].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				<-ctx.Done()
				return redisidem.Outcome{}, ctx.Err()
			}
		}))
		outer := mustFlow(b, timed(new([]string), func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				_, err := sc.DoFlow(ctx, "inner", request, inner)
				return redisidem.Outcome{}, err
			}
		}))
		key, err := sc.DoFlow(ctx, "outer", request, outer)
		mustBe(b, err, nil)
		mustHold(b, key, `"started: deadline"`)
		key, err = sc.Retrieve(ctx, "inner")
		mustBe(b, err, nil)
		if key.Finished() || key.RecoveryPoint != "paid" || len(undone) != 0 {
			b.Errorf("the inner key is %+v, and %v was undone", key, undone)
		}
	})
}

// TestLongDeadlineUndoesAKeyThatSnoozes has a deadline behind the age at which a key that only gets
// interim answers becomes a dead letter.
func TestLongDeadlineUndoesAKeyThatSnoozes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		svc := b.service(redisidem.Config{})
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Deadline = 48 * time.Hour
			c.Stages[2].Work = outcome(redisidem.Snooze(time.Hour, pending))
		}))
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		var all redisidem.SweepResult
		for range 60 {
			time.Sleep(time.Hour + time.Second)
			result, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
			all.Finished, all.DeadLettered = all.Finished+result.Finished, all.DeadLettered+result.DeadLettered
		}
		if all.Finished != 1 || all.DeadLettered != 0 || len(undone) != 3 {
			b.Errorf("%+v, and %v was undone", all, undone)
		}
	})
}
