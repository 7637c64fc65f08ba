package redisidem_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestKeyOfALongerRetentionHasAllItsAttempts has a completer whose records live shorter than the
// pauses between the attempts at the key.
func TestKeyOfALongerRetentionHasAllItsAttempts(t *testing.T) {
	inBubble(t, func(b *bubble) {
		flow := mustFlow(b, cart(recoverable, func(c *redisidem.FlowConfig) {
			c.RecoverAfter, c.Stages[2].Work = 30*time.Minute, fails(errStage)
		}))
		svc := b.service(redisidem.Config{Retention: time.Hour})
		view, err := svc.WithRetention(1000 * time.Hour)
		mustBe(b, err, nil)
		_, err = view.Scope("a").DoFlow(ctx, "k", request, flow)
		mustBe(b, err, errStage)
		completer := mustCompleter(b, svc, flow)
		for range 400 {
			time.Sleep(time.Hour)
			swept, err := completer.Sweep(ctx)
			mustBe(b, err, nil)
			if swept.DeadLettered == 0 {
				continue
			}
			key, err := svc.Scope("a").Retrieve(ctx, "k")
			mustBe(b, err, nil)
			if key.Attempts != redisidem.DefaultMaxAttempts || !strings.HasSuffix(key.DeadLetter.Reason, " 10 attempts") {
				b.Errorf("given up after %d attempts: %+v", key.Attempts, key.DeadLetter)
			}
			return
		}
		b.Error("not given up")
	})
}
