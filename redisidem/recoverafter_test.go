package redisidem_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestCompleterPostponesFailingKeys(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.MaxAttempts = 4
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if broken {
					return redisidem.Outcome{}, errStage
				}
				return redisidem.Next(), nil
			}
		}))
		events := &recorder{}
		svc := b.service(redisidem.Config{Observer: events})
		sc := svc.Scope("a")
		_, err := sc.DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		// The pauses are 30 s after the first attempt, then 60, 120 and 240, each with up to a
		// quarter of jitter on top.
		for attempt, pause := range []time.Duration{30, 60, 120} {
			time.Sleep((pause - 1) * time.Second)
			mustSweep(b, completer, redisidem.SweepResult{})
			time.Sleep(pause*time.Second/4 + 2*time.Second)
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
			key, err := sc.Retrieve(ctx, "k")
			mustBe(b, err, nil)
			if key.Attempts != attempt+2 {
				b.Errorf("the key is %+v", key)
			}
		}
		time.Sleep(5 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		time.Sleep(time.Hour)
		mustSweep(b, completer, redisidem.SweepResult{})
		if b.indexed("due") != 0 || b.indexed("dead") != 1 || events.count(redisidem.EventDeadLettered) != 1 {
			b.Errorf("%d due, %d dead, %v", b.indexed("due"), b.indexed("dead"), events.kinds())
		}
		for _, e := range events.all() {
			if want := `stage "taxed" of cart/1: 4 attempts; the last failure: `; e.Kind == redisidem.EventDeadLettered &&
				(!strings.HasPrefix(e.Err.Error(), want) || !strings.HasSuffix(e.Err.Error(), errStage.Error())) {
				b.Errorf("the event says %q", e.Err)
			}
		}

		letters := func() (keys []*redisidem.Key) {
			for key, err := range svc.DeadLetters(ctx, "cart") {
				mustBe(b, err, nil)
				keys = append(keys, key)
			}
			return keys
		}
		found := letters()
		if len(found) != 1 || found[0].Value != "k" || found[0].Scope != "a" || found[0].DeadLetter == nil ||
			found[0].DeadLetter.Reason != `stage "taxed" of cart/1: 4 attempts` || found[0].DeadLetter.At.IsZero() {
			b.Fatalf("the dead letters are %+v", found)
		}
		// A requeued key has as many attempts as before.
		mustBe(b, sc.Requeue(ctx, found[0]), nil)
		mustBe(b, sc.Requeue(ctx, found[0]), redisidem.ErrNotFound)
		if len(letters()) != 0 {
			b.Error("the dead letter is still there")
		}
		for range 3 {
			mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
			time.Sleep(time.Hour)
		}
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Failed: 1})
		time.Sleep(time.Hour)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, DeadLettered: 1})
		if again := letters(); len(again) != 1 || again[0].DeadLetter.Reason != `stage "taxed" of cart/1: 4 attempts since it was requeued` {
			b.Fatalf("the dead letters are %+v", again)
		}
		mustBe(b, sc.Requeue(ctx, found[0]), nil)
		broken = false
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
		if b.indexed("due") != 0 || b.indexed("dead") != 0 {
			b.Errorf("%d due, %d dead", b.indexed("due"), b.indexed("dead"))
		}
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		mustBe(b, sc.Requeue(ctx, key), redisidem.ErrFinished)
	})
}

// TestRenewalKeepsThePauseOfItsAttempt has processes that die after they have renewed their lease.
func TestRenewalKeepsThePauseOfItsAttempt(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Second)
				b.freeze()
				return redisidem.Outcome{}, errStage
			}
		}))
		dies := func() *redisidem.Service { return b.service(redisidem.Config{CommitRetry: -1}) }
		_, err := dies().Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		b.thaw()
		// The pauses are 30 s after the first attempt's lease of 10 s, then 60 and 120, each with
		// up to a quarter of jitter on top.
		for _, pause := range []time.Duration{30, 60, 120} {
			time.Sleep((pause + 5) * time.Second)
			mustSweep(b, mustCompleter(b, dies(), flow), redisidem.SweepResult{})
			time.Sleep(pause*time.Second/4 + 6*time.Second)
			mustSweep(b, mustCompleter(b, dies(), flow), redisidem.SweepResult{Due: 1, Failed: 1})
			b.thaw()
		}
	})
}
