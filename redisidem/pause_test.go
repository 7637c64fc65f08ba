package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// pausableFlow lets operators pause a flow for clients.
func pausableFlow(c *redisidem.FlowConfig) { c.Pausable = true }

func TestClientsOfAPausedFlowAreRefused(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		flow := mustFlow(t, cart(pausableFlow))
		_, err := sc.DoFlow(ctx, "finished", request, flow)
		mustBe(t, err, nil)
		begun, err := sc.DoFlow(ctx, "begun", request, mustFlow(t, cart(func(c *redisidem.FlowConfig) { c.Stages[2].Work = fails(errStage) })))
		mustBe(t, err, errStage)
		for _, paused := range []string{"cart", "cart/1"} {
			sc := e.service().Scope("a") // a process that has not read the pauses yet
			in := redisidem.NewInspector(e.service())
			mustBe(t, in.Pause(ctx, paused, true, act), nil)
			for _, value := range []string{"new", "begun"} {
				key, err := sc.DoFlow(ctx, value, request, flow)
				mustBe(t, err, redisidem.ErrPaused)
				why, ok := errors.AsType[*redisidem.PausedError](err)
				if !ok || why.Pause.Flow != paused || why.Pause.Reason != act.Reason || why.Pause.At.IsZero() {
					t.Errorf("the error is %+v", err)
				}
				if key == nil || key.Value != value {
					t.Errorf("the key is %+v", key)
				}
			}
			_, err = sc.WorkFlow(ctx, begun, flow)
			mustBe(t, err, redisidem.ErrPaused)
			_, err = sc.Retrieve(ctx, "new")
			mustBe(t, err, redisidem.ErrNotFound)
			if key, err := sc.Retrieve(ctx, "begun"); err != nil || key.Attempts != begun.Attempts {
				t.Errorf("the key has %+v, %v", key, err)
			}
			key, err := sc.DoFlow(ctx, "finished", request, flow)
			mustBe(t, err, nil)
			if !key.Replayed() {
				t.Errorf("the finished key is %+v", key)
			}
			_, err = sc.DoFlow(ctx, "finished", otherRequests["params"], flow)
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = sc.DoFlow(ctx, "version2"+paused, request, mustFlow(t, cart(pausableFlow, func(c *redisidem.FlowConfig) { c.Version = 2 })))
			if (err == nil) != (paused == "cart/1") {
				t.Errorf("version 2: %v", err)
			}
			mustBe(t, in.Resume(ctx, paused, act), nil)
		}
	})
}

// TestPauseReachesClientsWithinASecond counts what calls of many flows read.
func TestPauseReachesClientsWithinASecond(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(b.service(redisidem.Config{}))
		sc := svc.Scope("a")
		flow := mustFlow(b, cart(pausableFlow))
		calls := 0
		do := func() error {
			calls++
			_, err := sc.DoFlow(ctx, fmt.Sprint("k", calls), request, flow)
			return err
		}
		mustBe(b, do(), nil)
		mustBe(b, in.Pause(ctx, "cart", false, act), nil)
		time.Sleep(2 * time.Second)
		mustBe(b, do(), nil) // the pause is for completers
		mustBe(b, in.Pause(ctx, "cart", true, act), nil)
		time.Sleep(time.Second)
		mustBe(b, do(), redisidem.ErrPaused)
		_, err := sc.DoFlow(ctx, "not pausable", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
		mustBe(b, in.Resume(ctx, "cart", act), nil)
		mustBe(b, do(), redisidem.ErrPaused) // still the answer of this second
		time.Sleep(time.Second)
		mustBe(b, do(), nil)

		plain := mustFlow(b, cart())
		cost := func(flow *redisidem.Flow) int {
			before := b.sent()
			for i := range 100 {
				_, err := sc.DoFlow(ctx, fmt.Sprint(flow.Config().Pausable, i), request, flow)
				mustBe(b, err, nil)
			}
			return b.sent() - before
		}
		time.Sleep(time.Minute)
		if p, n := cost(flow), cost(plain); p != n+1 {
			b.Errorf("100 calls within a second send %d requests, and %d if the flow is not pausable, want one more", p, n)
		}
	})
}

// TestClientsOfAnUnreachableRedisKeepTheLastPauses has turns that cannot be read.
func TestClientsOfAnUnreachableRedisKeepTheLastPauses(t *testing.T) {
	inBubble(t, func(b *bubble) {
		turns := redisidem.DefaultNamespace + ":turn:/flows"
		svc := b.service(redisidem.Config{})
		flow := mustFlow(b, cart(pausableFlow))
		mustBe(b, b.server.Set(turns, "x"), nil)
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, nil)
		b.server.Del(turns)
		mustBe(b, redisidem.NewInspector(svc).Pause(ctx, "cart", true, act), nil)
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, err := svc.Scope("a").DoFlow(ctx, fmt.Sprint(i), request, flow)
				mustBe(b, err, redisidem.ErrPaused)
			})
		}
		wg.Wait()
		b.server.Del(turns)
		mustBe(b, b.server.Set(turns, "x"), nil)
		time.Sleep(time.Minute)
		_, err = svc.Scope("a").DoFlow(ctx, "l", request, flow)
		mustBe(b, err, redisidem.ErrPaused)
	})
}

// TestCallerWaitsForThePausesNoLongerThanATimeout has a caller that leaves while it reads the
// pauses. Another caller has waited for it, and must not begin anew.
func TestCallerWaitsForThePausesNoLongerThanATimeout(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Timeout: 500 * time.Millisecond})
		flow := mustFlow(b, cart(pausableFlow))
		b.freeze()
		leaves, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
		defer cancel()
		var left sync.WaitGroup
		left.Go(func() { _, _ = svc.Scope("a").DoFlow(leaves, "one", request, flow) })
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		_, err := svc.Scope("a").DoFlow(ctx, "two", request, flow)
		if took := time.Since(began); took > time.Second { // for the pauses and for the claim
			b.Errorf("%v after %v", err, took)
		}
		mustBe(b, err, redisidem.ErrUnavailable)
		left.Wait()
	})
}
