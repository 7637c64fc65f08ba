package redisidem_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestStageThatGoesOnIsReported covers a stage that ignores its context.
func TestStageThatGoesOnIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration // of the stage
		maxHold time.Duration
		after   time.Duration // when it is reported
		reason  string
	}{
		"MaxHold": {0, time.Minute, 70 * time.Second, "max-hold"},
		"Timeout": {20 * time.Second, -1, 30 * time.Second, "stage-timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				rec := &recorder{}
				svc := b.service(redisidem.Config{Lease: 10 * time.Second, MaxHold: c.maxHold, Observer: rec})
				flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
					cfg.Stages[1].Timeout = c.timeout
					cfg.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						time.Sleep(c.after - time.Second)
						if rec.count(redisidem.EventHung) != 0 || svc.ProcessStats().StagesHung != 0 {
							b.Error("reported too early")
						}
						time.Sleep(2 * time.Second)
						if n := svc.ProcessStats().StagesHung; n != 1 {
							b.Errorf("%d stages are hung", n)
						}
						time.Sleep(5 * time.Minute)
						return redisidem.Outcome{}, errStage
					}
				}))
				_, err := svc.Scope("tenant").DoFlow(ctx, "k", request, flow)
				mustBe(b, err, errStage)
				var hung []redisidem.Event
				for _, e := range rec.all() {
					if e.Kind == redisidem.EventHung {
						hung = append(hung, e)
					}
				}
				if len(hung) != 1 {
					b.Fatalf("%d events: %+v", len(hung), hung)
				}
				e := hung[0]
				if e.Key != svc.Scope("tenant").ID("k") || e.Scope != "tenant" || e.Flow != "cart/1" || e.Stage != "taxed" ||
					e.Duration != c.after || redisidem.Reason(e.Err) != c.reason {
					b.Errorf("the event is %+v", e)
				}
				if n := svc.ProcessStats().StagesHung; n != 0 {
					b.Errorf("%d stages are hung, although it has returned", n)
				}
			})
		})
	}
}

// TestStagesThatEndAreNotReported covers stages that return within one Lease after their context,
// and those that a retry repeats.
func TestStagesThatEndAreNotReported(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		svc := b.service(redisidem.Config{Lease: 10 * time.Second, MaxHold: 3 * time.Minute, Observer: rec})
		flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
			cfg.Stages[1].Timeout = 20 * time.Second
			cfg.Stages[1].Retry = redisidem.Retry{Attempts: 4, Backoff: time.Second}
			cfg.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(29 * time.Second)
				return redisidem.Outcome{}, errStage
			}
		}))
		_, err := svc.Scope("tenant").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		time.Sleep(time.Hour)
		if slices.Contains(rec.kinds(), redisidem.EventHung) {
			b.Error("a stage that ended was reported")
		}
	})
}

// TestMaxHoldBoundsAStage checks that a flow may take longer than MaxHold, since each of its stages
// makes progress.
func TestMaxHoldBoundsAStage(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Lease: 10 * time.Second, MaxHold: time.Minute})
		flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
			for i := range cfg.Stages {
				work := cfg.Stages[i].Work
				cfg.Stages[i].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					time.Sleep(50 * time.Second)
					mustBe(b, context.Cause(ctx), nil)
					return work(ctx, st)
				}
			}
		}))
		key, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if !key.Finished() || len(key.Journal) != 4 {
			b.Errorf("the key is %+v", key)
		}
	})
}

// TestLaterStageIsNotTakenForTheHungOne covers a stage that was reported and returned a result.
func TestLaterStageIsNotTakenForTheHungOne(t *testing.T) {
	inBubble(t, func(b *bubble) {
		rec := &recorder{}
		svc := b.service(redisidem.Config{Lease: 10 * time.Second, MaxHold: -1, Observer: rec})
		slow := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			time.Sleep(time.Minute)
			return redisidem.Next(), nil
		}
		flow := mustFlow(b, cart(func(cfg *redisidem.FlowConfig) {
			cfg.Stages[0].Timeout, cfg.Stages[0].Work = 20*time.Second, slow
			cfg.Stages[1].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if n := svc.ProcessStats().StagesHung; n != 0 {
					b.Errorf("%d stages are hung, although it has returned", n)
				}
				return redisidem.Next(), nil
			}
			cfg.Stages[2].Timeout, cfg.Stages[2].Work = 20*time.Second, slow
		}))
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		if n := rec.count(redisidem.EventHung); n != 2 {
			b.Errorf("%d stages were reported, want 2", n)
		}
	})
}
