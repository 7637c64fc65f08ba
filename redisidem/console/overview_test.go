package console_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestOverviewCountsKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	page := s.get("/", 200)
	for _, state := range redisidem.KeyStates() {
		mustHave(t, page, `<span class="state `+state.String()+`">`, `<rect class="`+state.String()+`"`)
	}
	mustHave(t, page, "Keys by state", "counted", `href="./dead"`, `href="./dead?flow=order"`, "<polyline", "ann (operator)", `<td data-label="Keys" class="n">9</td>`)
	mustLack(t, page, "±", "Checked at", secretBody)
}

// TestOverviewEstimatesManyKeys has so many keys that they are drawn at random.
func TestOverviewEstimatesManyKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 10_001 {
		s.must(s.server.Set(fmt.Sprint("other:", i), ""))
	}
	page := s.site().get("/", 200)
	mustHave(t, page, "±", "drawn at random", `<td data-label="Keys" class="n">1</td><td data-label="Error" class="n">counted</td>`)
	mustLack(t, page, "±0<") // also for a state that was not drawn
}

func TestOverviewSaysWhatCheckSays(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	reads := 0
	check := func(context.Context) (*redisidem.Report, error) {
		reads++
		return &redisidem.Report{Findings: []redisidem.Finding{
			{Node: "10.0.0.1:6379", Subject: "version", Verdict: redisidem.VerdictGood, Detail: "Redis 8"},
			{Node: "10.0.0.1:6379", Subject: "eviction", Verdict: redisidem.VerdictFailure, Detail: "keys are <forgotten>"},
		}}, nil
	}
	c := s.site(func(c *console.Config) { c.Check = check })
	page := c.get("/", 200)
	mustHave(t, page, `Redis <span class="verdict failure">`, "10.0.0.1:6379", "keys are &lt;forgotten&gt;", "Checked at")
	c.get("/", 200)
	if reads != 1 {
		t.Errorf("the check ran %d times within a minute", reads)
	}
	failing := s.site(func(c *console.Config) {
		c.Check = func(context.Context) (*redisidem.Report, error) {
			return nil, fmt.Errorf("%w: password hunter2", redisidem.ErrUnavailable)
		}
	})
	page = failing.get("/", 200)
	mustHave(t, page, "Redis gave no answer", "Keys by state")
	mustLack(t, page, "hunter2")
	checking := s.site(func(c *console.Config) { c.Check = s.svc.Check })
	mustHave(t, checking.get("/", 200), "scripts", "all transitions of a key work")
}
