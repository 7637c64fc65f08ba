package redisidem_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestPausesAreKeptAndAudited pauses flows, pauses one again, and resumes them.
func TestPausesAreKeptAndAudited(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc}
		mustBe(t, in.Pause(ctx, "cart", false, act), nil)
		in.mustBeAudited(t, 1, "pause", "cart", "done")
		mustBe(t, in.Pause(ctx, "mail/12", true, act), nil)
		in.mustBeAudited(t, 2, "pause with clients", "mail/12", "done")
		all, err := in.Pauses(ctx)
		mustBe(t, err, nil)
		if len(all) != 2 || all[0].Flow != "cart" || all[0].Clients || all[1].Flow != "mail/12" || !all[1].Clients ||
			all[0].Actor != "ann" || all[0].Reason != "ticket 4711" || time.Since(all[0].At).Abs() > time.Minute {
			t.Fatalf("the pauses are %+v", all)
		}
		since := all[0].At
		mustBe(t, in.Pause(ctx, "cart", true, redisidem.Act{Actor: "bob", Reason: "still % down"}), nil)
		all, err = in.Pauses(ctx)
		mustBe(t, err, nil)
		if len(all) != 2 || all[1].Flow != "cart" || !all[1].Clients || all[1].Actor != "bob" || all[1].Reason != "still % down" || !all[1].At.Equal(since) {
			t.Fatalf("the second pause of the flow makes %+v, want it since %v", all, since)
		}
		mustBe(t, in.Resume(ctx, "mail", act), redisidem.ErrNotPaused)
		in.mustBeAudited(t, 4, "resume", "mail", "not found")
		mustBe(t, in.Resume(ctx, "cart", act), nil)
		in.mustBeAudited(t, 5, "resume", "cart", "done")
		mustBe(t, in.Resume(ctx, "mail/12", act), nil)
		if all, err = in.Pauses(ctx); err != nil || len(all) > 0 {
			t.Fatalf("after the last resume the pauses are %+v, %v", all, err)
		}
	})
}

// TestPausesOutliveTurns has completers that take turns and rest while a flow is paused.
func TestPausesOutliveTurns(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		other := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) { c.Name = "other" }))
		b.runFor(mustCompleter(b, svc, other), time.Minute)
		mustBe(b, in.Pause(ctx, "cart", false, act), nil)
		time.Sleep(1000 * time.Hour)
		b.runFor(mustCompleter(b, svc, other), time.Minute)
		time.Sleep(time.Hour)
		if all, err := in.Pauses(ctx); err != nil || len(all) != 1 {
			b.Fatalf("an hour after the last turn the pauses are %+v, %v", all, err)
		}
		mustBe(b, in.Resume(ctx, "cart", act), nil)
		time.Sleep(time.Hour)
		for _, k := range b.server.Keys() {
			if strings.HasSuffix(k, ":turn:/flows") {
				b.Error("the turns do not expire after the last pause")
			}
		}
	})
}

func TestPausesAreBoundedAndChecked(t *testing.T) {
	inBubble(t, func(b *bubble) {
		in := redisidem.NewInspector(b.service(redisidem.Config{}))
		for _, flow := range []string{"", "#", "a b", "cart/", "cart/0", "cart/x", "cart/1/2", "a\tb", strings.Repeat("a", 65)} {
			mustBeInvalid(b, in.Pause(ctx, flow, false, act), "flow", "name/version")
			mustBeInvalid(b, in.Resume(ctx, flow, act), "flow", "name/version")
		}
		mustBeInvalid(b, in.Pause(ctx, "cart", false, redisidem.Act{Actor: "ann"}), "Act.Reason")
		mustBeInvalid(b, in.Resume(ctx, "cart", redisidem.Act{Reason: "r"}), "Act.Actor")
		for i := range 64 {
			mustBe(b, in.Pause(ctx, fmt.Sprint("flow", i), false, act), nil)
		}
		mustBeInvalid(b, in.Pause(ctx, "one", false, act), "flow", "64 pauses")
		mustBe(b, in.Pause(ctx, "flow7", true, act), nil)
		mustBe(b, in.Resume(ctx, "flow0", act), nil)
		mustBe(b, in.Pause(ctx, "one", false, act), nil)
	})
}
