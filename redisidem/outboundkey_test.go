package redisidem_test

import (
	"context"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestOutboundKeysNeverMove pins outbound keys. Computed in another way, a stage that runs again
// would repeat the calls of its first run with a new key.
func TestOutboundKeysNeverMove(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("tenant-42")
		for generation, want := range []string{
			"9f2d825f-837f-8e1a-9408-9a00f48a5323", "301a2e3e-0180-8405-8e86-762d9a9db698", "c67fae2f-546a-882b-b733-fc00af2eab9c",
		} {
			for _, point := range []string{"two", "three", "ride_created"} {
				_, err := sc.Do(ctx, "key-from-the-client", request, returns(redisidem.Advance(point)))
				mustBe(b, err, nil)
			}
			key, err := sc.Do(ctx, "key-from-the-client", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				entry := redisidem.JournalEntry{Stage: "ride_created", Revision: 3}
				if got, committed := st.OutboundKey("charge"), st.CommittedKey(entry, "charge"); got != want || committed != want {
					b.Errorf("in generation %d the keys are %s and %s, want %s", generation, got, committed, want)
				}
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			mustBe(b, err, nil)
			mustBe(b, sc.Delete(ctx, key), nil)
		}
	})
}
