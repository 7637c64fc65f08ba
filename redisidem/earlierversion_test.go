package redisidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestInvalidEarlierVersionsAreRefused(t *testing.T) {
	t.Parallel()
	v1 := mustFlow(t, cart())
	v2 := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.Version, c.Earlier = 2, []redisidem.EarlierVersion{{Flow: v1}}
	}))
	other := mustFlow(t, cart(func(c *redisidem.FlowConfig) { c.Name = "order" }))
	due := mustFlow(t, cart(recoverable))
	adopt := outcome(redisidem.Advance("paid"))
	for _, c := range []struct {
		earlier []redisidem.EarlierVersion
		field   string
		words   []string
	}{
		{[]redisidem.EarlierVersion{{Adopt: adopt}}, "FlowConfig.Earlier[0].Flow", []string{"nil"}},
		{[]redisidem.EarlierVersion{{Flow: other}}, "FlowConfig.Earlier[0].Flow", []string{`"cart"`, "order/1"}},
		{[]redisidem.EarlierVersion{{Flow: mustFlow(t, cart(func(c *redisidem.FlowConfig) { c.Version = 3 }))}}, "FlowConfig.Earlier[0].Flow", []string{"cart/3", "before 3"}},
		{[]redisidem.EarlierVersion{{Flow: v1}, {Flow: v1}}, "FlowConfig.Earlier[1].Flow", []string{"cart/1", "there already"}},
		{[]redisidem.EarlierVersion{{Flow: v1}, {Flow: v2}}, "FlowConfig.Earlier[1].Flow", []string{"cart/1", "there already"}},
		{[]redisidem.EarlierVersion{{Flow: due, Adopt: adopt}}, "FlowConfig.Earlier[0].Flow", []string{"cart/1", "RecoverAfter"}},
	} {
		flow, err := redisidem.NewFlow(cart(func(cfg *redisidem.FlowConfig) { cfg.Version, cfg.Earlier = 3, c.earlier }))
		if flow != nil {
			t.Errorf("%s: there is a flow", c.field)
		}
		mustBeInvalid(t, err, c.field, c.words...)
	}
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.Version, c.Earlier = 3, []redisidem.EarlierVersion{{Flow: v2}}
	}))
	flow.Config().Earlier[0].Flow = nil
	if got := flow.Config().Earlier[0].Flow; got != v2 {
		t.Errorf("the flow has changed: its earlier version is %v", got)
	}
}
