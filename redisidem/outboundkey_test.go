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
			"c3c56f50-63d1-882d-aeaf-febcff3386dd", "f061ac47-88b5-87db-b7a5-fbd3ee186fc2", "f81ace69-7611-8392-922a-bd6f4af35523",
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
