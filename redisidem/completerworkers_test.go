package redisidem_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestCompleterOutlivesStagesThatEndTheirGoroutine(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = fails(errStage)
		}))
		ends := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runtime.Goexit()
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		for _, value := range []string{"k", "l", "m"} {
			_, err := svc.Scope("a").DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Minute)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Concurrency: 1}, ends)
		mustSweep(b, completer, redisidem.SweepResult{Due: 3, Failed: 3})
		time.Sleep(time.Hour)
		mustSweep(b, mustCompleter(b, svc, mustFlow(b, cart(recoverable))), redisidem.SweepResult{Due: 3, Finished: 3})
	})
}

// TestCompleterOutlivesAnObserverThatPanics has an observer that panics when a key is claimed.
func TestCompleterOutlivesAnObserverThatPanics(t *testing.T) {
	inBubble(t, func(b *bubble) {
		_, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, mustFlow(b, cart(recoverable,
			func(c *redisidem.FlowConfig) { c.Stages[0].Work = fails(errStage) })))
		mustBe(b, err, errStage)
		time.Sleep(time.Minute)
		flow := mustFlow(b, cart(recoverable))
		svc := b.service(redisidem.Config{Observer: nervous(redisidem.EventClaimed)})
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}

// TestFlowWhoseStagesHangDoesNotHoldUpOthers has more hanging keys than workers.
func TestFlowWhoseStagesHangDoesNotHoldUpOthers(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var served atomic.Int64
		var client atomic.Bool
		client.Store(true)
		named := func(name string, work redisidem.StageFunc) *redisidem.Flow {
			return mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				c.Name, c.RecoverAfter = name, time.Millisecond
				c.Stages[0].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					if client.Load() {
						return redisidem.Outcome{}, errStage
					}
					return work(ctx, st)
				}
			}))
		}
		slow := named("slow", func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			<-ctx.Done()
			return redisidem.Outcome{}, ctx.Err()
		})
		quick := named("quick", func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			served.Add(1)
			return redisidem.Finish(redisidem.JSON(200, nil)), nil
		})
		svc := b.service(redisidem.Config{})
		for i := range 12 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint("slow", i), request, slow)
			mustBe(b, err, errStage)
		}
		time.Sleep(time.Second)
		client.Store(false)
		completer := mustCompleterWith(b, svc, redisidem.CompleterConfig{Interval: time.Second, Drain: -1}, slow, quick)
		during, cancel := context.WithTimeout(ctx, 6*time.Second)
		defer cancel()
		ended := make(chan error)
		go func() { ended <- completer.Run(during) }()
		time.Sleep(time.Second)
		client.Store(true)
		for i := range 8 {
			_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint("quick", i), request, quick)
			mustBe(b, err, errStage)
		}
		client.Store(false)
		mustBe(b, <-ended, context.DeadlineExceeded)
		if served.Load() != 8 {
			b.Errorf("%d of 8 keys of the other flow were served, want 8", served.Load())
		}
	})
}
