package redisidem_test

import (
	"context"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestTrapS3UnknownPointIsATypedError(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("point of route A")))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "route B", func() {
			_, err := drive(sc, "k", otherRequests["path"], map[string]redisidem.StageFunc{"point of route A": never(t)})
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, map[string]redisidem.StageFunc{})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
	})
}

func TestTrapS14PointOfANewerProgramIsNotPoisoned(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("new in version 2").WithState(1)))
		mustBe(t, err, nil)
		e.mustNotChange(e.client(), "a program that does not know the point", func() {
			_, err := drive(sc, "k", request, map[string]redisidem.StageFunc{redisidem.Started: never(t)})
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		_, _, err = redisidem.Do(ctx, sc, "k", request, func(context.Context, *redisidem.Stage) (int, error) {
			t.Error("the callback ran")
			return 0, nil
		})
		mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		mustStandAt(t, start(t, sc, "k"), "new in version 2", 1)
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"new in version 2": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
		e.mustBeTidy(e.client())
	})
}
