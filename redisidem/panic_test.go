package redisidem_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

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

func TestTrapS16PanicPassesThroughAndStoresNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		bug := &struct{ name string }{"a bug"}
		for name, c := range map[string]struct {
			end  func()
			want any
		}{"panic": {func() { panic(bug) }, bug}, "runtime.Goexit": {runtime.Goexit, nil}} {
			start(t, sc, name)
			got := make(chan any, 1)
			returned := false
			go func() {
				defer func() { got <- recover() }()
				_, _ = sc.Do(ctx, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					c.end()
					return redisidem.Outcome{}, nil
				})
				returned = true
			}()
			if value := <-got; value != c.want || returned {
				t.Errorf("%s: recovered %v, returned %v", name, value, returned)
			}
			key := start(t, sc, name)
			mustStandAt(t, key, redisidem.Started, 0)
			if key.Attempts != 1 || key.Response != nil || !key.LockedAt.IsZero() {
				t.Errorf("%s: the key is %+v", name, key)
			}
		}
	})
}
