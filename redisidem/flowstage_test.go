package redisidem_test

import (
	"context"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestStageThatNamesItselfIsNotLimited has a stage that processes a list.
func TestStageThatNamesItselfIsNotLimited(t *testing.T) {
	inBubble(t, func(b *bubble) {
		client := true
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.Stages[1].Next = []string{"taxed", "paid"}
			c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				switch {
				case client:
					return redisidem.Outcome{}, errStage
				case st.Key().Revision < 40:
					return redisidem.Advance("taxed"), nil
				}
				return redisidem.Next(), nil
			}
		}))
		svc := b.service(redisidem.Config{})
		_, err := svc.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		client = false
		time.Sleep(time.Minute)
		mustSweep(b, mustCompleter(b, svc, flow), redisidem.SweepResult{Due: 1, Finished: 1})
	})
}
