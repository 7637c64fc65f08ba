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
			"fcd09840-9dbf-8511-b80b-3cc932bb254e", "8db475b9-c706-84b2-a9e2-cffd248e3e36", "c8ac96be-f955-85d4-b5f1-5c10af0c9a04",
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
