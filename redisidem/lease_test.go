package redisidem_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestTrapL1CrashWedgesAKeyForOneLeaseOnly(t *testing.T) {
	inBubble(t, func(b *bubble) {
		dead := locked(b, b.service(silent).Scope("a"), "k")
		sc := b.service(redisidem.Config{}).Scope("a")
		time.Sleep(redisidem.DefaultLease - 10*time.Millisecond)
		_, err := sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		time.Sleep(20 * time.Millisecond)
		_, err = sc.Do(ctx, "k", request, finish("done"))
		mustBe(b, err, nil)
		_ = dead.Abandon(ctx)
		time.Sleep(redisidem.DefaultRetention - time.Minute)
		mustHold(b, start(b, sc, "k"), `"done"`)
	})
}

func TestTrapL2LiveOwnerIsNotTakenOver(t *testing.T) {
	inBubble(t, func(b *bubble) {
		lease := locked(b, b.service(redisidem.Config{}).Scope("a"), "k")
		other := b.service(redisidem.Config{}).Scope("a")
		for range 30 {
			time.Sleep(2 * time.Second)
			_, err := other.Do(ctx, "k", request, never(b))
			mustBe(b, err, redisidem.ErrLocked)
		}
		_, err := lease.Commit(ctx, redisidem.Outcome{})
		mustBe(b, err, nil)
	})
}

func TestTrapL2CommitAfterTakeoverIsRefused(t *testing.T) {
	inBubble(t, func(b *bubble) {
		paused := locked(b, b.service(silent).Scope("a"), "k")
		sc := b.service(redisidem.Config{}).Scope("a")
		time.Sleep(redisidem.DefaultLease + time.Second)
		_, err := sc.Do(ctx, "k", request, finish("by the other"))
		mustBe(b, err, nil)
		_, err = paused.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "by the paused one")))
		mustBe(b, err, redisidem.ErrFenced)
		mustHold(b, start(b, sc, "k"), `"by the other"`)
	})
}

func TestTrapL3LockIsOnlyAdvice(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		raw := e.client()
		one := locked(t, e.service().Scope("a"), "k")
		_, lock := e.place(one.Key())
		token := raw.Get(ctx, lock).Val()
		lapse(t, e, raw, one.Key())
		two := locked(t, e.service().Scope("a"), "k")
		mustBe(t, raw.Set(ctx, lock, token, time.Minute).Err(), nil) // the lock now says that it is one's
		_, err := one.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "one")))
		mustBe(t, err, redisidem.ErrFenced)
		key, err := two.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "two")))
		mustBe(t, err, nil)
		mustHold(t, key, `"two"`)
	})
}

func TestTrapL6StrangerCannotTouchALease(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		raw := e.client()
		stale := locked(t, e.service().Scope("a"), "k")
		lapse(t, e, raw, stale.Key())
		lease := locked(t, e.service().Scope("a"), "k")
		record, lock := e.place(lease.Key())
		token := raw.Get(ctx, lock).Val()
		mustBe(t, stale.Renew(ctx), redisidem.ErrLeaseLost)
		_ = stale.Abandon(ctx)
		if got := raw.Get(ctx, lock).Val(); got != token || readControl(raw, record)[controlToken] != token {
			t.Errorf("the lock is %q, want %q", got, token)
		}
		_, err := lease.Commit(ctx, redisidem.Outcome{})
		mustBe(t, err, nil)
	})
}

func TestTrapL10LockTokensAreFresh(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		seen := make(map[string]bool)
		for range 3 {
			lease := locked(t, sc, "the-key")
			_, err := sc.Lock(ctx, "the-key")
			mustBe(t, err, redisidem.ErrLocked)
			_, lock := e.place(lease.Key())
			token := raw.Get(ctx, lock).Val()
			if len(token) < 22 || seen[token] || strings.Contains(token, lease.Key().ID()) || strings.Contains(token, "the-key") {
				t.Errorf("the token is %q, after %v", token, seen)
			}
			seen[token] = true
			mustBe(t, lease.Abandon(ctx), nil)
		}
	})
}

func TestTrapL19EveryLeaseHasADeadline(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		lease := locked(t, sc, "k")
		record, lock := e.place(lease.Key())
		check := func(when string) {
			t.Helper()
			if left := raw.PTTL(ctx, lock).Val(); left <= 0 || left > redisidem.DefaultLease {
				t.Errorf("%s: the lock has the TTL %v", when, left)
			}
			if left := raw.PTTL(ctx, record).Val(); left < redisidem.DefaultRetention {
				t.Errorf("%s: the record has the TTL %v", when, left)
			}
		}
		check("after the claim")
		mustBe(t, lease.Renew(ctx), nil)
		check("after a renewal")
		mustBe(t, raw.Del(ctx, lock).Err(), nil)
		mustBe(t, lease.Renew(ctx), nil)
		check("after a renewal past the lapse")
		_, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		mustBe(t, err, nil)
		if !held {
			t.Error("not held")
		}
		check("after a kept commit")
		mustBe(t, lease.Abandon(ctx), nil)
		e.mustBeTidy(raw)
	})
}

func TestTrapL21OldOwnersLateEffectCanBeRefused(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		// The bank refuses orders with a smaller fence than the last one, and takes each outbound
		// key once.
		var newest int64
		charges := make(map[string]int64)
		charge := func(st *redisidem.Stage) error {
			if st.Fence() < newest {
				return fmt.Errorf("fence %d is older than %d", st.Fence(), newest)
			}
			newest = st.Fence()
			charges[st.OutboundKey("charge")]++
			return nil
		}
		one, two, raw := e.service().Scope("a"), e.service().Scope("a"), e.client()
		_, err := one.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			mustBe(t, charge(st), nil)
			lapse(t, e, raw, st.Key())
			_, err := two.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(redisidem.JSON(200, "two")), charge(st)
			})
			mustBe(t, err, nil)
			if charge(st) == nil {
				t.Error("the old owner could act after the takeover")
			}
			if st.OutboundKey("charge") == st.OutboundKey("refund") {
				t.Error("two operations have the same outbound key")
			}
			return redisidem.Finish(redisidem.JSON(200, "one")), nil
		})
		mustBe(t, err, redisidem.ErrFenced)
		if len(charges) != 1 {
			t.Errorf("the bank sees %d different orders: %v", len(charges), charges)
		}
	})
}

// TestS12_TokensAreRandom checks that no token occurs twice.
func TestS12_TokensAreRandom(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		seen := make(map[string]bool)
		const leases = 1000
		for range leases {
			start(b, sc, "k")
			lease, err := sc.Lock(ctx, "k")
			mustBe(b, err, nil)
			for _, name := range b.server.Keys() {
				if strings.HasSuffix(name, ":lock") {
					token, err := b.server.Get(name)
					mustBe(b, err, nil)
					if len(token) != 22 {
						b.Errorf("the token %q is not 128 bits long", token)
					}
					seen[token] = true
				}
			}
			mustBe(b, lease.Abandon(ctx), nil)
		}
		if len(seen) != leases {
			b.Errorf("%d leases had %d tokens", leases, len(seen))
		}
	})
}
