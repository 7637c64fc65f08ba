package redisidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

func TestClaimThatIsRepeatedAfterAnUnlockIsRefused(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc, other := svc.Scope("a"), e.service().Scope("a")
		start(t, sc, "k")
		w.mu.Lock()
		w.lose, w.then = lua.Claim, func() {
			if err := other.Unlock(ctx, "k"); err != nil {
				t.Error(err)
			}
		}
		w.mu.Unlock()
		lease, err := sc.Lock(ctx, "k")
		if err == nil {
			defer func() { mustBe(t, lease.Abandon(ctx), nil) }()
		}
		mustBe(t, err, redisidem.ErrLeaseLost)
		next, err := other.Lock(ctx, "k")
		mustBe(t, err, nil)
		mustBe(t, next.Abandon(ctx), nil)
		e.mustBeTidy(e.client())
	})
}
