package redisidem_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestOpenVersionsAreCounted(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		in := redisidem.NewInspector(svc)
		version := func(n int, change ...func(*redisidem.FlowConfig)) *redisidem.Flow {
			return mustFlow(t, cart(append(change, func(c *redisidem.FlowConfig) { c.Version, c.RecoverAfter = n, time.Hour })...))
		}
		for n, keys := range map[int]int{1: 3, 2: 250, 10: 1} {
			for i := range keys {
				_, err := sc.DoFlow(ctx, fmt.Sprint(n, "-", i), request, version(n, stopsAt("paid")))
				mustBe(t, err, nil)
			}
		}
		for _, value := range []string{"finished", "deleted"} {
			_, err := sc.DoFlow(ctx, value, request, version(3))
			mustBe(t, err, nil)
		}
		_, err := sc.DoFlow(ctx, "other", request, version(1, stopsAt("paid"), func(c *redisidem.FlowConfig) { c.Name = "carton" }))
		mustBe(t, err, nil)
		// A dead letter of version 1.
		dead := mustFlow(t, cart(failsAt("paid"), func(c *redisidem.FlowConfig) { c.MaxAttempts, c.RecoverAfter = 1, time.Millisecond }))
		_, err = sc.DoFlow(ctx, "dead", request, dead)
		mustBe(t, err, errStage)
		completer := mustCompleter(t, svc, dead)
		for swept := (redisidem.SweepResult{}); swept.DeadLettered == 0; {
			swept, err = completer.Sweep(ctx)
			mustBe(t, err, nil)
		}

		versions, err := in.OpenVersions(ctx, "cart")
		mustBe(t, err, nil)
		want := []redisidem.OpenVersion{{Version: 1, Open: 3, Dead: 1}, {Version: 2, Open: 250}, {Version: 10, Open: 1}}
		if !slices.Equal(versions, want) {
			t.Errorf("the versions are %+v, want %+v", versions, want)
		}
		versions, err = in.OpenVersions(ctx, "none")
		mustBe(t, err, nil)
		if len(versions) != 0 {
			t.Errorf("a flow without keys has the versions %+v", versions)
		}
		_, err = in.OpenVersions(ctx, "cart/1")
		mustBeInvalid(t, err, "flow", `"cart/1"`)
	})
}
