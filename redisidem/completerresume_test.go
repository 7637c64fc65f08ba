package redisidem_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestCompleterRunsOnlyItsVersions(t *testing.T) {
	inBubble(t, func(b *bubble) {
		broken := true
		version := func(n int) *redisidem.Flow {
			return mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
				c.Version = n
				c.Stages[0].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					if broken {
						return redisidem.Outcome{}, errStage
					}
					return redisidem.Next(), nil
				}
				c.Stages[3].Work = finish(fmt.Sprint("version ", n))
			}))
		}
		v1, v2, v3 := version(1), version(2), version(3)
		svc := b.service(redisidem.Config{})
		sc := svc.Scope("a")
		for value, flow := range map[string]*redisidem.Flow{"1": v1, "2": v2} {
			_, err := sc.DoFlow(ctx, value, request, flow)
			mustBe(b, err, errStage)
		}
		broken = false
		time.Sleep(time.Minute)
		before, err := sc.Retrieve(ctx, "1")
		mustBe(b, err, nil)
		mustSweep(b, mustCompleter(b, svc, v3), redisidem.SweepResult{Due: 2, Failed: 2})
		after, err := sc.Retrieve(ctx, "1")
		mustBe(b, err, nil)
		if asText(b.T, before) != asText(b.T, after) {
			b.Errorf("another version changed the key from %+v to %+v", before, after)
		}
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, v1, v3, v2), redisidem.SweepResult{Due: 2, Finished: 2})
		for _, value := range []string{"1", "2"} {
			key, err := sc.Retrieve(ctx, value)
			mustBe(b, err, nil)
			if want := `"version ` + value + `"`; string(key.Response.Body) != want {
				b.Errorf("key %s ends with %s", value, key.Response.Body)
			}
		}
	})
}

func TestCompleterLeavesLiveWorkersAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(5 * time.Minute)
				return redisidem.Next(), context.Cause(ctx)
			}
		}))
		done := make(chan *redisidem.Key)
		go func() {
			key, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, "k", request, flow)
			mustBe(b, err, nil)
			done <- key
		}()
		completer := mustCompleter(b, b.service(redisidem.Config{}), flow)
		for range 28 {
			time.Sleep(10 * time.Second)
			mustSweep(b, completer, redisidem.SweepResult{}) // renewals put it off
		}
		if key := <-done; !key.Finished() || key.Attempts != 1 {
			b.Errorf("the key is %+v", key)
		}
	})
}

func TestCompleterLeavesInterimAnswersToTheirClients(t *testing.T) {
	inBubble(t, func(b *bubble) {
		confirmed := false
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.InterimFor = time.Hour
			c.Stages[2].Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					return redisidem.Interim("paid", redisidem.JSON(202, "confirm")), nil
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		completer := mustCompleter(b, svc, flow)
		time.Sleep(59 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(2 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1}) // carried on, to the same interim answer
		confirmed = true
		time.Sleep(59 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{})
		time.Sleep(2 * time.Minute)
		mustSweep(b, completer, redisidem.SweepResult{Due: 1, Finished: 1})
	})
}
