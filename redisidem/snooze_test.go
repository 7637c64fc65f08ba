package redisidem_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

var pending = redisidem.JSON(202, "pending")

// polling is a flow whose third stage asks a provider until the provider is done.
func polling(d time.Duration, asked *int, done func() bool, change ...func(*redisidem.FlowConfig)) redisidem.FlowConfig {
	return cart(append([]func(*redisidem.FlowConfig){recoverable, func(c *redisidem.FlowConfig) {
		c.Stages[2].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			*asked++
			if st.Attempt() != 1 {
				return redisidem.Outcome{}, fmt.Errorf("attempt %d", st.Attempt())
			}
			if done() {
				return redisidem.Next(), nil
			}
			return redisidem.Snooze(d, pending).WithState(*asked), nil
		}
	}}, change...)...)
}

func TestSnoozedStageRunsAgainAtItsTime(t *testing.T) {
	inBubble(t, func(b *bubble) {
		asked, done := 0, false
		flow := mustFlow(b, polling(10*time.Minute, &asked, func() bool { return done }))
		svc := b.service(redisidem.Config{Retention: 2 * time.Hour})
		sc := svc.Scope("a")
		completer := mustCompleter(b, svc, flow)
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if key.Replayed() || key.Response.Code != 202 || !key.SnoozedUntil.Equal(key.UpdatedAt.Add(10*time.Minute)) {
			b.Errorf("the answer is %+v, snoozed until %v, updated at %v", key.Response, key.SnoozedUntil, key.UpdatedAt)
		}

		// A call before the time gets the answer again, in one round trip, and takes no lease.
		time.Sleep(9 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		before := b.sent()
		again, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if asked != 1 || !again.Replayed() || string(again.Response.Body) != `"pending"` || b.lock() != "" || b.sent() != before+1 {
			b.Errorf("asked %d times, replayed %v: %+v, in %d requests", asked, again.Replayed(), again.Response, b.sent()-before)
		}
		if again.Attempts != key.Attempts || !again.SnoozedUntil.Equal(key.SnoozedUntil) {
			b.Errorf("%d attempts, snoozed until %v", again.Attempts, again.SnoozedUntil)
		}
		_, err = sc.DoFlow(ctx, "k", redisidem.Request{Method: "POST", Path: "/other"}, flow)
		mustBe(b, err, redisidem.ErrFingerprintMismatch)

		// At the time, a completer looks, and its look costs no attempt.
		time.Sleep(time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		if asked != 2 {
			b.Errorf("asked %d times", asked)
		}
		// So does a client.
		time.Sleep(10*time.Minute + time.Second)
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if asked != 3 {
			b.Errorf("asked %d times", asked)
		}
		done = true
		time.Sleep(10*time.Minute + time.Second)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		key, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
		var stages []string
		for _, e := range key.Journal {
			stages = append(stages, e.Stage)
		}
		// The three snoozes have one entry.
		if !slices.Equal(stages, []string{redisidem.Started, "taxed", "paid", "paid", "ordered"}) || key.Revision != 7 || !key.SnoozedUntil.IsZero() {
			b.Errorf("%q in %d commits, snoozed until %v", stages, key.Revision, key.SnoozedUntil)
		}
	})
}

// TestSnoozeUntilCalled has a stage that waits for the client itself.
func TestSnoozeUntilCalled(t *testing.T) {
	inBubble(t, func(b *bubble) {
		confirmed := false
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if confirmed {
					return redisidem.Next(), nil
				}
				return redisidem.Snooze(time.Hour, pending).UntilCalled(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		time.Sleep(time.Hour - time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{})
		confirmed = true
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
	})
}

// TestSnoozeSurvivesItsIndex lets a completer look too early.
func TestSnoozeSurvivesItsIndex(t *testing.T) {
	inBubble(t, func(b *bubble) {
		asked := 0
		flow := mustFlow(b, polling(10*time.Minute, &asked, func() bool { return false }))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		for _, k := range b.server.Keys() {
			if strings.Contains(k, "}:due:") {
				_, err := b.server.ZAdd(k, 1, key.ID())
				mustBe(b, err, nil)
			}
		}
		completer := mustCompleter(b, svc, flow)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		time.Sleep(9 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		if asked != 1 {
			b.Errorf("asked %d times", asked)
		}
		time.Sleep(time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		if asked != 2 {
			b.Errorf("asked %d times", asked)
		}
	})
}

// TestShortSnoozeWakesCompleters checks that a snooze ends in time although the flow rests.
func TestShortSnoozeWakesCompleters(t *testing.T) {
	inBubble(t, func(b *bubble) {
		asked := 0
		var seen atomic.Int64
		flow := mustFlow(b, polling(2*time.Second, &asked, func() bool {
			seen.Store(int64(asked))
			return asked == 5
		}))
		svc := b.service(redisidem.Config{})
		work, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second}, flow).Run(work)
		}()
		time.Sleep(5 * time.Second) // the flow rests
		began := time.Now()
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		for seen.Load() < 5 && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 14*time.Second {
			b.Errorf("four snoozes of 2 s took %v", took)
		}
		stop()
		mustBe(b, <-ended, context.Canceled)
	})
}

// TestManySnoozesCanBeUndone has about as many snoozes as the journal has entries, and more. Each
// number drops another entry, if an entry is dropped by its distance.
func TestManySnoozesCanBeUndone(t *testing.T) {
	for _, snoozes := range []int{1021, 1022, 1023, 1024, 1100} {
		t.Run(fmt.Sprint(snoozes), func(t *testing.T) { undoAfterSnoozes(t, snoozes) })
	}
}

func undoAfterSnoozes(t *testing.T, snoozes int) {
	t.Helper()
	inBubble(t, func(b *bubble) {
		var undone []string
		looks := 0
		flow := mustFlow(b, undoing(&undone, recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				looks++
				if looks > snoozes {
					return redisidem.Next(), nil
				}
				return redisidem.Snooze(time.Second, pending), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for range snoozes {
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			time.Sleep(time.Second)
		}
		key, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		// The snoozes and the commit of the stage are undone once each.
		if want := []string{"paid", "paid", "taxed", redisidem.Started}; !slices.Equal(undone, want) || key.Response.Code != 402 {
			b.Errorf("undone %q, want %q; the answer is %+v", undone, want, key.Response)
		}
		if key.Revision != int64(2+snoozes+1+1+4) || len(key.Journal) != 2+1+1+1+4 {
			b.Errorf("%d commits, %d in the journal", key.Revision, len(key.Journal))
		}
	})
}

// TestUpdateAfterManySnoozesKeepsTheJournal moves a key on by hand when it has as many commits as
// the journal keeps. Most of them were merged, so none may be dropped by its distance.
func TestUpdateAfterManySnoozesKeepsTheJournal(t *testing.T) {
	for _, snoozes := range []int{1022, 1023} {
		t.Run(fmt.Sprint(snoozes), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var undone []string
				flow := mustFlow(b, undoing(&undone, recoverable, func(c *redisidem.FlowConfig) {
					c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						return redisidem.Snooze(time.Second, pending), nil
					}
				}))
				sc := b.service(redisidem.Config{}).Scope("a")
				var key *redisidem.Key
				for range snoozes {
					var err error
					key, err = sc.DoFlow(ctx, "k", request, flow)
					mustBe(b, err, nil)
					time.Sleep(time.Second)
				}
				_, err := sc.Update(ctx, key, redisidem.Advance("ordered"))
				mustBe(b, err, nil)
				_, err = sc.DoFlow(ctx, "k", request, flow)
				mustBe(b, err, nil)
				if want := []string{"paid", "paid", "taxed", redisidem.Started}; !slices.Equal(undone, want) {
					b.Errorf("undone %q, want %q", undone, want)
				}
			})
		})
	}
}

// TestUnlockKeepsASnooze takes the lease away from a key that no worker has. The key comes again
// when its snooze ends, and not sooner.
func TestUnlockKeepsASnooze(t *testing.T) {
	inBubble(t, func(b *bubble) {
		asked := 0
		flow := mustFlow(b, polling(time.Hour, &asked, func() bool { return false }))
		sc := b.service(redisidem.Config{}).Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		mustBe(b, sc.Unlock(ctx, "k"), nil)
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if asked != 1 {
			b.Errorf("the stage ran %d times before the snooze ended", asked)
		}
		time.Sleep(time.Hour)
		_, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if asked != 2 {
			b.Errorf("the stage ran %d times when the snooze had ended, want 2", asked)
		}
	})
}

func TestSnoozeOnServers(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		asked := 0
		flow := mustFlow(t, polling(time.Hour, &asked, func() bool { return false }))
		sc := e.service().Scope("a")
		for i := range 3 {
			key, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(t, err, nil)
			if asked != 1 || key.Replayed() != (i > 0) || key.Response.Code != 202 || key.SnoozedUntil.IsZero() {
				t.Errorf("call %d: asked %d times, %+v, snoozed until %v", i, asked, key.Response, key.SnoozedUntil)
			}
		}
		// A program that takes the lease itself may work on the key at any time, and ends the
		// snooze.
		key, err := locked(t, sc, "k").Commit(ctx, redisidem.Advance("ordered"))
		mustBe(t, err, nil)
		if !key.SnoozedUntil.IsZero() {
			t.Errorf("still snoozed until %v", key.SnoozedUntil)
		}
		key, err = sc.DoFlow(ctx, "k", request, flow)
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
	})
}

// TestSnoozeOfTwoStagesHasTwoEntries checks that only snoozes of one stage share an entry.
func TestSnoozeOfTwoStagesHasTwoEntries(t *testing.T) {
	inBubble(t, func(b *bubble) {
		looks := 0
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			for i := range c.Stages[:3] {
				c.Stages[i].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					looks++
					if looks%3 == 0 {
						return redisidem.Next(), nil
					}
					return redisidem.Snooze(time.Minute, pending), nil
				}
			}
		}))
		sc := b.service(redisidem.Config{}).Scope("a")
		var key *redisidem.Key
		for range 7 {
			var err error
			key, err = sc.DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			time.Sleep(time.Minute)
		}
		var stages []string
		for _, e := range key.Journal {
			stages = append(stages, e.Stage)
		}
		if want := []string{
			redisidem.Started, redisidem.Started, "taxed", "taxed", "paid", "paid", "ordered",
		}; !slices.Equal(stages, want) || !key.Finished() {
			b.Errorf("%q, want %q", stages, want)
		}
	})
}

func TestSnoozeIsBounded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Retention: time.Hour}).Scope("a")
		for d, want := range map[time.Duration]time.Duration{
			-time.Second: time.Millisecond, 0: time.Millisecond, time.Minute: time.Minute, 100 * time.Hour: 30 * time.Minute,
		} {
			asked := 0
			key, err := sc.DoFlow(ctx, d.String(), request, mustFlow(b, polling(d, &asked, func() bool { return false })))
			mustBe(b, err, nil)
			if got := key.SnoozedUntil.Sub(key.UpdatedAt); got != want {
				b.Errorf("snoozed for %v: %v, want %v", d, got, want)
			}
		}
		key, err := sc.Retrieve(ctx, "0s")
		mustBe(b, err, nil)
		_, err = sc.Update(ctx, key, redisidem.Snooze(time.Second, pending))
		mustBeInvalid(b, err, "Outcome", "Snooze")
		_, err = locked(b, sc, "0s").Commit(ctx, redisidem.Interim("taxed", pending).UntilCalled())
		mustBeInvalid(b, err, "Outcome.UntilCalled")
	})
}

// TestSnoozeWithoutAFlow is as Interim there: each call continues the work.
func TestSnoozeWithoutAFlow(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key, err := sc.Do(ctx, "k", request, outcome(redisidem.Snooze(time.Hour, pending)))
		mustBe(b, err, nil)
		if key.Response.Code != 202 || key.RecoveryPoint != redisidem.Started {
			b.Errorf("%q with %+v", key.RecoveryPoint, key.Response)
		}
		key, err = sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
	})
}

// TestSnoozedKeyIsNotDueTooEarly compares the times of the due index, in milliseconds, with the
// ends of the snoozes, in microseconds. A completer that comes too early gets nothing, and its flow
// rests.
func TestSnoozedKeyIsNotDueTooEarly(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		asked := 0
		flow := mustFlow(t, polling(time.Hour, &asked, func() bool { return false }))
		sc, raw := e.service().Scope("a"), e.client()
		for i := range 10 {
			key, err := sc.DoFlow(ctx, fmt.Sprint(i), request, flow)
			mustBe(t, err, nil)
			record, _ := e.place(key)
			index := record[:strings.LastIndex(record, ":")] + ":due:cart"
			due, err := raw.ZScore(ctx, index, key.ID()).Result()
			mustBe(t, err, nil)
			if early := key.SnoozedUntil.Sub(time.UnixMilli(int64(due))); early > 0 || early < -time.Millisecond {
				t.Errorf("the key is due %v before its snooze ends", early)
			}
		}
	})
}
