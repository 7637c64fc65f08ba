package redisidem_test

import (
	"context"
	"slices"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestCompensationContinuesWhenTheClientLeaves cancels the caller during the stage that fails
// permanently.
func TestCompensationContinuesWhenTheClientLeaves(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		caller, leave := context.WithCancel(ctx)
		var done []string
		flow := mustFlow(t, undoing(&done, func(c *redisidem.FlowConfig) {
			fail := c.Stages[3].Work
			c.Stages[3].Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				leave()
				return fail(ctx, st)
			}
			for i := range c.Stages {
				undo := c.Stages[i].Compensate
				c.Stages[i].Compensate = func(ctx context.Context, st *redisidem.Stage) error {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					return undo(ctx, st)
				}
			}
		}))
		key, err := sc.DoFlow(caller, "k", request, flow)
		mustBe(t, err, nil)
		if want := []string{"paid", "taxed", redisidem.Started}; !slices.Equal(done, want) || !key.Finished() {
			t.Errorf("undone %q at %q, want %q", done, key.RecoveryPoint, want)
		}
	})
}
