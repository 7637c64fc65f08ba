package redisidem_test

import (
	"errors"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM1ClientsKeyIsStored(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		key := start(t, e.service().Scope("a"), "chosen by the client")
		if key.Value != "chosen by the client" {
			t.Fatalf("the key is %q", key.Value)
		}
		_, err := e.service().Scope("a").WorkStage(ctx, key, finish("paid"))
		mustBe(t, err, nil)
		// The response was lost, and the client tries again at another process.
		again := start(t, e.service().Scope("a"), "chosen by the client")
		mustHold(t, again, `"paid"`)
		if !again.Replayed() {
			t.Error("not a replay")
		}
	})
}

func TestSeedM3KeyStandsForOneRequest(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		for what, other := range otherRequests {
			if _, err := sc.InitializeRequest(ctx, "k", other); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
				t.Errorf("another %s: %v", what, err)
			}
		}
		start(t, sc, "k")
	})
}

func TestSeedM4OtherRouteCannotPoisonAKey(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("payment_authorized")))
		mustBe(t, err, nil)
		stages := map[string]redisidem.StageFunc{redisidem.Started: never(t)}
		e.mustNotChange(e.client(), "the other route", func() {
			_, err := drive(sc, "k", otherRequests["path"], stages)
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, stages)
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"payment_authorized": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
	})
}
