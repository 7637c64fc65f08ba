package redisidem_test

import (
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestInvalidFlowsAreRefused(t *testing.T) {
	t.Parallel()
	stages := func(s ...redisidem.FlowStage) func(*redisidem.FlowConfig) {
		return func(c *redisidem.FlowConfig) { c.Stages = s }
	}
	first := redisidem.FlowStage{Point: redisidem.Started, Work: next}
	for _, c := range []struct {
		change func(*redisidem.FlowConfig)
		field  string
		words  []string
	}{
		{func(c *redisidem.FlowConfig) { c.Name = "" }, "FlowConfig.Name", []string{"64"}},
		{func(c *redisidem.FlowConfig) { c.Name = "a/b" }, "FlowConfig.Name", []string{`"a/b"`}},
		{func(c *redisidem.FlowConfig) { c.Version = 0 }, "FlowConfig.Version", []string{"at least 1"}},
		{stages(), "FlowConfig.Stages", []string{"empty"}},
		{stages(redisidem.FlowStage{Point: "taxed", Work: last}), "FlowConfig.Stages[0].Point", []string{"started"}},
		{stages(first, redisidem.FlowStage{Work: last}), "FlowConfig.Stages[1].Point", []string{"empty"}},
		{stages(first, first), "FlowConfig.Stages[1].Point", []string{"earlier"}},
		{stages(first, redisidem.FlowStage{Point: redisidem.Finished, Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "compensate:1", Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "adopt:paid", Work: last}), "FlowConfig.Stages[1].Point", []string{`"adopt:"`}},
		{stages(first, redisidem.FlowStage{Point: "a\nb", Work: last}), "FlowConfig.Stages[1].Point", nil},
		{stages(first, redisidem.FlowStage{Point: "a"}), "FlowConfig.Stages[1].Work", []string{"nil"}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Next: []string{}}), "FlowConfig.Stages[1].Next", []string{"empty"}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Next: []string{"b"}}), "FlowConfig.Stages[1].Next", []string{`"b"`}},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Timeout: -1}), "FlowConfig.Stages[1].Timeout", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, MaxVisits: -1}), "FlowConfig.Stages[1].MaxVisits", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Retry: redisidem.Retry{Attempts: -1}}), "FlowConfig.Stages[1].Retry.Attempts", nil},
		{stages(first, redisidem.FlowStage{Point: "a", Work: last, Retry: redisidem.Retry{Backoff: 2, MaxBackoff: 1}}), "FlowConfig.Stages[1].Retry.Backoff", nil},
		{stages( // no stage leads to b
			redisidem.FlowStage{Point: redisidem.Started, Work: next, Next: []string{"a"}},
			redisidem.FlowStage{Point: "b", Work: next},
			redisidem.FlowStage{Point: "a", Work: last},
		), "FlowConfig.Stages[1]", []string{`"b"`, "reached"}},
		{stages( // a and b lead to each other only
			redisidem.FlowStage{Point: redisidem.Started, Work: next, Next: []string{redisidem.Finished, "a"}},
			redisidem.FlowStage{Point: "a", Work: next},
			redisidem.FlowStage{Point: "b", Work: next, Next: []string{"a"}},
		), "FlowConfig.Stages[1]", []string{`"a"`, "finished"}},
		{func(c *redisidem.FlowConfig) { c.RecoverAfter = -1 }, "FlowConfig.RecoverAfter", []string{"1ms"}},
		{func(c *redisidem.FlowConfig) { c.InterimFor = -1 }, "FlowConfig.InterimFor", []string{"1ms"}},
		{func(c *redisidem.FlowConfig) { c.MaxAttempts = -1 }, "FlowConfig.MaxAttempts", []string{"at least 1"}},
	} {
		flow, err := redisidem.NewFlow(cart(c.change))
		if flow != nil {
			t.Errorf("%s: there is a flow", c.field)
		}
		mustBeInvalid(t, err, c.field, c.words...)
	}
	flow := mustFlow(t, cart())
	if got := flow.Config(); flow.String() != "cart/1" || got.MaxAttempts != 10 || got.InterimFor != 15*time.Minute ||
		got.Stages[1].MaxVisits != 16 || !slices.Equal(got.Stages[3].Next, []string{redisidem.Finished}) {
		t.Errorf("the flow is %s, %+v", flow, got)
	}
}

func TestConfigOfAFlowIsACopy(t *testing.T) {
	t.Parallel()
	flow := mustFlow(t, cart())
	flow.Config().Stages[1].Next[0] = "x"
	if got := flow.Config().Stages[1].Next[0]; got != "paid" {
		t.Errorf("the flow has changed: %q, want %q", got, "paid")
	}
}
