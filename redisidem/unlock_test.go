package redisidem_test

import (
	"errors"
	"testing"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestUnlockSaysWhetherThereWasALease unlocks keys in each state twice, by hand.
func TestUnlockSaysWhetherThereWasALease(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for state, want := range map[redisidem.KeyState]error{
			redisidem.KeyInFlight: nil, redisidem.KeyAbandoned: nil, redisidem.KeyFinished: redisidem.ErrFinished,
			redisidem.KeyIdle: redisidem.ErrNotLocked, redisidem.KeyInterim: redisidem.ErrNotLocked, redisidem.KeyInterrupted: redisidem.ErrNotLocked, redisidem.KeyDead: redisidem.ErrNotLocked,
		} {
			if err := in.Unlock(ctx, in.mustGet(t, state.String(), state), act); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: %v, want %v", state, err, want)
			}
			if want == nil {
				want = redisidem.ErrNotLocked
			}
			info, err := in.Get(ctx, state.String(), "key")
			mustBe(t, err, nil)
			if err := in.Unlock(ctx, info, act); !errors.Is(err, want) {
				t.Errorf("%s, again: %v, want %v", state, err, want)
			}
			mustBe(t, in.svc.Scope(state.String()).Unlock(ctx, "key"), nil)
		}
		words := make(map[string]int)
		entries, err := in.Audit(ctx, noTime, noTime)
		mustBe(t, err, nil)
		for _, entry := range entries {
			words[entry.Outcome]++
		}
		if len(words) != 3 || words["done"] != 2 || words["not locked"] != 10 || words["finished"] != 2 {
			t.Errorf("the outcomes are %v", words)
		}
	})
}

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
