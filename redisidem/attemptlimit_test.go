package redisidem_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestFlowThatLoopsBecomesADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Advance("paid"))
			c.Stages[2].Work, c.Stages[2].Next = outcome(redisidem.Advance("taxed")), []string{"taxed", "ordered"}
		}))
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, redisidem.ErrNoProgress)
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if key.DeadLetter == nil || !strings.Contains(key.DeadLetter.Reason, "came back") {
			b.Errorf("the dead letter is %+v", key.DeadLetter)
		}
	})
}

func TestEndlessInterimAnswersBecomeADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[2].Work = outcome(redisidem.Interim("paid", redisidem.JSON(202, "confirm")))
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		for range 3 {
			time.Sleep(20 * time.Minute)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1})
		}
		time.Sleep(20 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		// A requeued key gets interim answers for as long again.
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		mustBe(b, sc.Requeue(ctx, key), nil)
		for range 4 {
			mustSweep(b, completer, redisidem.SweepResult{Due: 1})
			time.Sleep(20 * time.Minute)
		}
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
	})
}

// TestKeyThatNeverEndsBecomesADeadLetter has stages that extend their record each time and use up
// no attempts.
func TestKeyThatNeverEndsBecomesADeadLetter(t *testing.T) {
	failed := false
	for _, c := range []struct {
		name   string
		work   redisidem.StageFunc
		after  time.Duration // with a retention of 1 h, and 15 min for interim answers
		reason string
	}{
		{
			"interim answers at an earlier stage", outcome(redisidem.Interim("taxed", redisidem.JSON(202, "confirm"))), 80 * time.Minute,
			"interim answers for 1h",
		},
		{"nothing done", outcome(redisidem.NothingDone()), 80 * time.Minute, "nothing done for 1h"},
		{"nothing done after a failure", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			if !failed {
				failed = true
				return redisidem.Outcome{}, errStage
			}
			return redisidem.NothingDone(), nil
		}, 155 * time.Minute, "nothing done for 2h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				flow := mustFlow(b, cart(recoverable, func(cfg *redisidem.FlowConfig) { cfg.Stages[2].Work = c.work }))
				svc := b.service(redisidem.Config{Retention: time.Hour})
				sc := svc.Scope("a")
				if _, err := sc.DoFlow(ctx, "k", request, flow); err != nil {
					mustBe(b, err, errStage)
				}
				completer := mustCompleter(b, svc, flow)
				if got := untilDeadLettered(b, sc, completer, c.after); !strings.Contains(got, c.reason) {
					b.Errorf("the reason is %q", got)
				}
				key, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
				mustBe(b, sc.Requeue(ctx, key), nil)
				mustSweep(b, completer, redisidem.SweepResult{Due: 1})
			})
		})
	}
}

// TestLongListDoesNotBecomeADeadLetter has a stage that processes a list item by item for longer
// than a record lives, and then fails.
func TestLongListDoesNotBecomeADeadLetter(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Next, c.Stages[1].MaxVisits = []string{"taxed", "paid"}, 1000
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(10 * time.Minute)
				switch {
				case st.Key().Revision == 12:
					return redisidem.Outcome{}, errStage
				case st.Key().Revision > 12:
					return redisidem.Next(), nil
				}
				return redisidem.Advance("taxed"), nil
			}
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour, MaxHold: -1})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Failed: 1})
	})
}

// TestKeyOfALongerRetentionHasAllItsAttempts has a completer whose records live shorter than the
// pauses between the attempts at the key.
func TestKeyOfALongerRetentionHasAllItsAttempts(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.Stages[2].Work = 30*time.Minute, fails(errStage)
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour})
		view, err := svc.WithRetention(1000 * time.Hour)
		mustBe(b, err, nil)
		_, err = view.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		for range 400 {
			time.Sleep(time.Hour)
			swept, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
			if swept.DeadLettered == 0 {
				continue
			}
			key, err := svc.Scope("a").Retrieve(ctx, "k")
			mustBe(b, err, nil)
			if key.Attempts != redisidem.DefaultMaxAttempts || !strings.HasSuffix(key.DeadLetter.Reason, " 10 attempts") {
				b.Errorf("given up after %d attempts: %+v", key.Attempts, key.DeadLetter)
			}
			return
		}
		b.Error("not given up")
	})
}

// untilDeadLettered sweeps every ten minutes until a key becomes a dead letter, and checks that
// this takes about as long as wanted. It returns the reason, or "" if the record cannot be read.
func untilDeadLettered(b *bubble, sc *redisidem.Scope, completer *redisidem.Completer, want time.Duration) string {
	b.Helper()
	began := time.Now()
	for time.Since(began) < 2*want {
		time.Sleep(10 * time.Minute)
		swept, err := completer.Sweep(ctx)
		mustBe(b, err, nil)
		if swept.DeadLettered == 0 {
			continue
		}
		if took := time.Since(began); took < want-time.Hour/2 || took > want+time.Hour/2 {
			b.Errorf("dead-lettered after %v, want %v", took, want)
		}
		if b.indexed("dead") != 1 || b.indexed("due") != 0 || b.lock() != "" {
			b.Errorf("%d dead, %d due, the lock is %q", b.indexed("dead"), b.indexed("due"), b.lock())
		}
		key, err := sc.Retrieve(ctx, "k")
		if err != nil || key.DeadLetter == nil {
			return ""
		}
		return key.DeadLetter.Reason
	}
	b.Errorf("not dead-lettered within %v", time.Since(began))
	return ""
}
