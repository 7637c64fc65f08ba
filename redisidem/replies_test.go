package redisidem_test

import (
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// What the scripts reply to commands that come late or once more.

func TestClaimThatComesAfterItsAbandonTakesNothing(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		late := b.repeated()
		mustBe(b, lease.Abandon(ctx), nil)
		late()
		if lock := b.lock(); lock != "" {
			b.Errorf("a late claim has taken %s", lock)
		}
		next, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		if got := next.Key().Attempts; got != 2 {
			b.Errorf("this is attempt %d, want 2: a late claim counts as none", got)
		}
		mustBe(b, next.Abandon(ctx), nil)
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

func TestKeptCommitThatIsRepeatedTellsThatTheLeaseIsGone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc, raw := svc.Scope("a"), e.client()
		lease := locked(t, sc, "k")
		_, lock := e.place(lease.Key())
		w.mu.Lock()
		w.lose, w.then = lua.Commit, func() {
			if err := raw.Del(ctx, lock).Err(); err != nil { // it lapses
				t.Error(err)
			}
		}
		w.mu.Unlock()
		key, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		mustBe(t, err, nil)
		if held || key.RecoveryPoint != "next" {
			t.Errorf("held is %t, and the key is at %s", held, key.RecoveryPoint)
			mustBe(t, lease.Abandon(ctx), nil)
		}
		next, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		mustBe(t, next.Abandon(ctx), nil)
	})
}

// What prolongs the lock prolongs the record: otherwise a worker that still has the lock finds no record to commit in.
func TestClaimThatComesAgainProlongsTheRecord(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second, MaxHold: time.Millisecond} // no renewals
		sc := b.service(cfg).Scope("a")
		lease := locked(b, sc, "k")
		again := b.repeated()
		for range 3 {
			time.Sleep(2900 * time.Millisecond)
			b.server.SetTTL(b.lock(), cfg.Lease) // as redislock's script does that comes again
			again()
		}
		_, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		mustHold(b, start(b, sc, "k"), `"done"`)
	})
}
