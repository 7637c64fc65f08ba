package redisidem_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestCanceledFlowIsUndone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		for _, client := range []bool{true, false} {
			var undone []string
			flow := mustFlow(t, timed(&undone, func(c *redisidem.FlowConfig) {
				c.Stages[2].Work = outcome(redisidem.Snooze(10*time.Hour, pending)) // which a cancel ends
			}))
			events := &failures{}
			svc := e.service(func(c *redisidem.Config) { c.Observer = events })
			sc := svc.Scope("a")
			value := "a completer comes"
			if client {
				value = "the client comes"
			}
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, nil)
			mustBe(t, sc.Cancel(ctx, value), nil)
			mustBe(t, sc.Cancel(ctx, value), nil)
			key, err := sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			if key.CanceledAt.IsZero() || key.Finished() {
				t.Errorf("canceled at %v, at %q", key.CanceledAt, key.RecoveryPoint)
			}
			if !client {
				mustSweep(t, mustCompleter(t, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
			}
			key, err = sc.DoFlow(ctx, value, request, flow)
			mustBe(t, err, nil)
			mustHold(t, key, `"paid: canceled-key"`)
			if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(undone, want) {
				t.Errorf("undone %q, want %q", undone, want)
			}
			mustBe(t, sc.Cancel(ctx, value), nil) // it is canceled still
			events.mustBe(t, redisidem.EventFailed, "paid", redisidem.ErrCanceled)
		}
	})
}

// TestCancelEndsARunningStage checks that the stage learns it within a renewal, and that nothing is
// undone while it is running.
func TestCancelEndsARunningStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		var took time.Duration
		begun, obeys := make(chan struct{}), true
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				close(begun)
				began := time.Now()
				<-ctx.Done()
				took = time.Since(began)
				if cause := context.Cause(ctx); !errors.Is(cause, redisidem.ErrCanceled) || !errors.Is(cause, redisidem.ErrLeaseLost) {
					b.Errorf("the stage ends because of %v", cause) // Fatal would end its goroutine alone
				}
				if obeys {
					return redisidem.Outcome{}, context.Cause(ctx)
				}
				time.Sleep(time.Second) // its lock lives on
				return redisidem.Next(), nil
			}
			c.Stages[2].CompensateFailed = true
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		completer := mustCompleter(b, svc, flow)
		for _, obeys = range []bool{true, false} {
			value := "stubborn"
			if obeys {
				value = "obeys"
			}
			begun, undone = make(chan struct{}), nil
			ended := make(chan error, 1)
			go func() {
				_, err := sc.DoFlow(ctx, value, request, flow)
				ended <- err
			}()
			<-begun
			mustBe(b, sc.Cancel(ctx, value), nil)
			mustSweep(b, completer, redisidem.SweepResult{})
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, redisidem.ErrLocked)
			mustBe(b, <-ended, redisidem.ErrLeaseLost)
			if third := svc.Config().Lease / 3; took > third || len(undone) > 0 {
				b.Errorf("the stage learned it after %v, more than %v; undone %q", took, third, undone)
			}
			time.Sleep(svc.Config().Lease)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
			key, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, nil)
			mustHold(b, key, `"paid: canceled-key"`)
			if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(undone, want) {
				b.Errorf("undone %q, want %q", undone, want)
			}
		}
	})
}

// TestCanceledWorkerGivesItsLockBack checks that a client need not wait for the lease of a canceled
// stage that has returned, whatever it returned.
func TestCanceledWorkerGivesItsLockBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, c := range []struct {
			value string
			o     redisidem.Outcome
			err   error
		}{
			{"its work is done", redisidem.Next(), nil},
			{"its work has failed", redisidem.Outcome{}, errStage},
		} {
			var undone []string
			var sc *redisidem.Scope
			flow := mustFlow(b, timed(&undone, func(cfg *redisidem.FlowConfig) {
				cfg.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					mustBe(b, sc.Cancel(ctx, c.value), nil)
					return c.o, c.err
				}
			}))
			sc = b.service(redisidem.Config{}).Scope("a")
			if _, err := sc.DoFlow(ctx, c.value, request, flow); err == nil {
				b.Errorf("%s: the canceled stage was committed", c.value)
			}
			synctest.Wait()
			key, err := sc.DoFlow(ctx, c.value, request, flow)
			mustBe(b, err, nil)
			mustHold(b, key, `"paid: canceled-key"`)
		}
	})
}

// TestCancelOfADeadWorker checks that the key is undone when the lease has lapsed.
func TestCancelOfADeadWorker(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		flow := mustFlow(b, timed(&undone, waitsAt(2)))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		locked(b, sc, "k") // held, and renewed, until the test ends
		mustBe(b, sc.Cancel(ctx, "k"), nil)
		completer := mustCompleter(b, svc, flow)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(svc.Config().Lease + time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if len(undone) != 3 {
			b.Errorf("undone %q", undone)
		}
	})
}

func TestCancelComesTooLate(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		var undone []string
		ready := true
		flow := mustFlow(t, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate = func(context.Context, *redisidem.Stage) error {
				if ready {
					return nil
				}
				return errStage
			}
		}))
		noReturn := mustFlow(t, timed(&undone, waitsAt(2), func(c *redisidem.FlowConfig) { c.Name, c.Stages[1].NoReturn = "noreturn", true }))
		notYet := mustFlow(t, timed(&undone, waitsAt(2), func(c *redisidem.FlowConfig) { c.Name, c.Stages[2].NoReturn = "notyet", true }))

		_, err := sc.DoFlow(ctx, "finished", request, flow)
		mustBe(t, err, nil)
		mustBe(t, sc.Cancel(ctx, "finished"), redisidem.ErrTooLate)

		ready = false
		fail := mustFlow(t, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Stages[1].Compensate = flow.Config().Stages[1].Compensate
			c.Stages[3].Work = outcome(redisidem.Fail(redisidem.JSON(402, "declined")))
		}))
		_, err = sc.DoFlow(ctx, "failed already", request, fail)
		mustBe(t, err, errStage)
		mustBe(t, sc.Cancel(ctx, "failed already"), redisidem.ErrTooLate)

		_, err = sc.DoFlow(ctx, "no return", request, noReturn)
		mustBe(t, err, nil)
		mustBe(t, sc.Cancel(ctx, "no return"), redisidem.ErrTooLate)
		key, err := sc.Retrieve(ctx, "no return")
		mustBe(t, err, nil)
		if !key.CanceledAt.IsZero() {
			t.Errorf("canceled at %v", key.CanceledAt)
		}
		_, err = sc.DoFlow(ctx, "not yet", request, notYet)
		mustBe(t, err, nil)
		mustBe(t, sc.Cancel(ctx, "not yet"), nil)

		_, err = sc.Do(ctx, "no flow", request, fails(errStage))
		mustBe(t, err, errStage)
		mustBeInvalid(t, sc.Cancel(ctx, "no flow"), "key", "no flow")
		mustBe(t, sc.Cancel(ctx, "never seen"), redisidem.ErrNotFound)
		mustBeInvalid(t, sc.Cancel(ctx, ""), "key", "empty")
	})
}

// TestCancelRacesTheLastCommit lets both happen at once, many times. Either the cancel came first
// and the commit is refused, or the cancel gets ErrTooLate.
func TestCancelRacesTheLastCommit(t *testing.T) {
	onServers(t, func(t *testing.T, e *env) {
		svc, other := e.service(), e.service()
		first, late := 0, 0
		for i := range 60 {
			value := "k" + strings.Repeat("x", i)
			var undone []string
			begun := make(chan struct{})
			flow := mustFlow(t, timed(&undone, func(c *redisidem.FlowConfig) {
				c.Stages[3].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					close(begun)
					return redisidem.Finish(redisidem.JSON(200, "done")), nil
				}
			}))
			canceled := make(chan error, 1)
			go func() {
				<-begun
				canceled <- other.Scope("a").Cancel(ctx, value)
			}()
			key, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
			switch cancelErr := <-canceled; {
			case cancelErr == nil:
				first++
				mustBe(t, err, redisidem.ErrFenced)
				key, err = svc.Scope("a").Wait(time.Minute).DoFlow(ctx, value, request, flow)
				mustBe(t, err, nil)
				mustHold(t, key, `"ordered: canceled-key"`)
			case errors.Is(cancelErr, redisidem.ErrTooLate):
				late++
				mustBe(t, err, nil)
				mustHold(t, key, `"done"`)
			default:
				t.Error(cancelErr)
			}
		}
		t.Logf("%d cancels came first, %d too late", first, late)
	}, func(name string, _ bool) bool { return name == "redis" })
}

// TestCanceledDeadLetterIsUndone checks that a cancel revives a dead letter.
func TestCanceledDeadLetterIsUndone(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		var undone []string
		svc := e.service()
		sc := svc.Scope("a")
		flow := mustFlow(t, timed(&undone, func(c *redisidem.FlowConfig) {
			c.MaxAttempts, c.RecoverAfter = 1, time.Millisecond
			c.Stages[2].Work = fails(errStage)
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, errStage)
		completer := mustCompleter(t, svc, flow)
		until(t, "the key is a dead letter", func() bool {
			swept, err := completer.Sweep(ctx)
			mustBe(t, err, nil)
			return swept.DeadLettered == 1
		})
		mustBe(t, sc.Cancel(ctx, "k"), nil)
		mustSweep(t, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		mustHold(t, key, `"paid: canceled-key"`)
	})
}

// TestSecondCancelRevivesADeadLetter cancels a key that could not be undone, because the program
// had lost a stage, and was canceled before.
func TestSecondCancelRevivesADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		change := func(c *redisidem.FlowConfig) { c.MaxAttempts, c.Stages[2].Work = 1, fails(errStage) }
		flow := mustFlow(b, timed(&undone, change))
		without := mustFlow(b, timed(&undone, change, func(c *redisidem.FlowConfig) { c.Stages[1].Point = "renamed" }))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		mustBe(b, sc.Cancel(ctx, "k"), nil)
		for range 4 {
			time.Sleep(time.Hour)
			_, err := mustCompleter(b, svc, without).Sweep(ctx)
			mustBe(b, err, nil)
		}
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter == nil {
			b.Fatalf("at %q after %d attempts", key.RecoveryPoint, key.Attempts)
		}
		mustBe(b, sc.Cancel(ctx, "k"), nil)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
		mustBe(b, sc.Cancel(ctx, "k"), nil) // it has its answer
		if len(undone) != 2 {
			b.Errorf("undone %q", undone)
		}
	})
}

// TestCancelWakesCompleters checks that a canceled key is undone although its flow rests.
func TestCancelWakesCompleters(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		flow := mustFlow(b, timed(&undone, waitsAt(2)))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		work, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second}, flow).Run(work)
		}()
		time.Sleep(10 * time.Second)
		mustBe(b, sc.Cancel(ctx, "k"), nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(undone) != 3 {
			b.Errorf("undone %q", undone)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

// TestCancelByAnOperator checks the audit.
func TestCancelByAnOperator(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc}
		var undone []string
		flow := mustFlow(t, timed(&undone, waitsAt(2)))
		sc := in.svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		info, err := in.Get(ctx, "a", "k")
		mustBe(t, err, nil)
		mustBe(t, in.Cancel(ctx, info, act), nil)
		in.mustBeAudited(t, 1, "cancel", info.ID, "done")
		info, err = in.Get(ctx, "a", "k")
		mustBe(t, err, nil)
		if info.CanceledAt.IsZero() {
			t.Error("the key does not say that it was canceled")
		}
		_, err = sc.DoFlow(ctx, "done", request, mustFlow(t, timed(&undone)))
		mustBe(t, err, nil)
		info, err = in.Get(ctx, "a", "done")
		mustBe(t, err, nil)
		mustBe(t, in.Cancel(ctx, info, act), redisidem.ErrTooLate)
		in.mustBeAudited(t, 2, "cancel", info.ID, "finished")
		mustBeInvalid(t, in.Cancel(ctx, info, redisidem.Act{}), "Act.Actor", "empty")
	})
}

// TestCancelBeforeTheCommitOfNoReturn cancels while the stage that is the point of no return has
// done its work and has not committed. Reconcile finds the work, and the flow goes on.
func TestCancelBeforeTheCommitOfNoReturn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var undone []string
		sc := b.service(redisidem.Config{}).Scope("a")
		charged := false
		flow := mustFlow(b, timed(&undone, func(c *redisidem.FlowConfig) {
			c.Stages[1].NoReturn = true
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				charged = true
				mustBe(b, sc.Cancel(ctx, "k"), nil)
				return redisidem.Next(), nil
			}
			c.Stages[1].Reconcile = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !charged {
					return redisidem.Outcome{}, redisidem.ErrNothingDone
				}
				return redisidem.Next(), nil
			}
		}))
		_, err := sc.DoFlow(ctx, "k", request, flow)
		if err == nil {
			b.Error("the commit was accepted")
		}
		time.Sleep(time.Minute)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || key.Response.Code == 410 || len(undone) != 0 {
			b.Errorf("the key is %+v, and %v was undone", key, undone)
		}
	})
}
