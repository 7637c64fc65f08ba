package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestObserverThatPanicsEndsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, kind := range []redisidem.EventKind{redisidem.EventCommitted, redisidem.EventAbandoned} {
			sc := b.service(redisidem.Config{Observer: nervous(kind)}).Scope("a")
			flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
				if kind == redisidem.EventAbandoned {
					c.Stages[1].Work = fails(errStage)
				}
			}))
			func() {
				defer func() {
					if v := recover(); v != kind {
						b.Errorf("recovered %v", v)
					}
				}()
				_, _ = sc.DoFlow(ctx, kind.String(), request, flow)
			}()
			time.Sleep(redisidem.DefaultLease)
			_, err := b.service(redisidem.Config{}).Scope("a").DoFlow(ctx, kind.String(), request, mustFlow(b, cart()))
			mustBe(b, err, nil)
		}
	})
}

// nervous is an observer that panics at one kind of event.
type nervous redisidem.EventKind

func (n nervous) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventKind(n) {
		panic(e.Kind)
	}
}

// startled is an observer that panics at one kind of event.
type startled redisidem.EventKind

func (s startled) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventKind(s) {
		panic("startled")
	}
}

func TestObserverThatPanicsLeavesNoKeyLocked(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Observer: startled(redisidem.EventClaimed)}).Scope("a")
		func() {
			defer func() {
				if v := recover(); v != "startled" {
					b.Errorf("recovered %v", v)
				}
			}()
			_, _ = sc.Do(ctx, "k", request, never(b))
		}()
		_, err := b.service(redisidem.Config{}).Scope("a").Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
	})
}

func TestNamesOfEvents(t *testing.T) {
	t.Parallel()
	for kind, want := range map[redisidem.EventKind]string{
		-1: "invalid", 0: "invalid", redisidem.EventDeadLettered + 1: "invalid",
		redisidem.EventClaimed: "claimed", redisidem.EventCommitted: "committed", redisidem.EventReplayed: "replayed",
		redisidem.EventRefused: "refused", redisidem.EventRenewed: "renewed", redisidem.EventLeaseLost: "lease-lost",
		redisidem.EventOutcomeUnknown: "outcome-unknown", redisidem.EventAbandoned: "abandoned",
		redisidem.EventDeadLettered: "dead-lettered",
	} {
		if got := kind.String(); got != want {
			t.Errorf("event %d is %q, want %q", int(kind), got, want)
		}
	}
}
