package redisidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestValueThatPanicsWhenEncodedAbandonsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		flow := mustFlow(b, cart(func(c *redisidem.FlowConfig) {
			c.Stages[1].Work = outcome(redisidem.Next().WithState(explosive{}))
		}))
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					b.Errorf("recovered %v, want %q", v, "boom")
				}
			}()
			_, _ = sc.DoFlow(ctx, "k", request, flow)
		}()
		_, err := sc.DoFlow(ctx, "k", request, mustFlow(b, cart()))
		mustBe(b, err, nil)
	})
}
