package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bsm/redislock"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

func TestLockOfAnotherTypeIsDamage(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		svc := e.service(func(c *redisidem.Config) { c.Timeout = 10 * time.Second })
		sc, raw := svc.Scope("a"), e.client()
		_, lock := e.place(start(t, sc, "k"))
		mustBe(t, raw.RPush(ctx, lock, "x").Err(), nil)
		began := time.Now()
		e.mustNotChange(raw, "a list for a lock", func() {
			_, err := sc.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrDamaged)
			_, err = sc.Lock(ctx, "k")
			mustBe(t, err, redisidem.ErrDamaged)
		})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("refused after %v, want at most %v", took, 5*time.Second)
		}
	})
}

func TestTrapL5FingerprintAndAttemptsOutliveTheOwner(t *testing.T) {
	inBubble(t, func(b *bubble) {
		dead := locked(b, b.service(silent).Scope("a"), "k")
		sc := b.service(redisidem.Config{}).Scope("a")
		time.Sleep(10 * redisidem.DefaultLease)
		_, err := sc.Do(ctx, "k", otherRequests["params"], never(b))
		mustBe(b, err, redisidem.ErrFingerprintMismatch)
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 {
				b.Errorf("attempt %d, want 2", st.Attempt())
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
		_ = dead.Abandon(ctx)
	})
}

// TestTrapL14LateDuplicateOfAClaimKeepsTheRecordAlive sends a claim once more. It extends the lock,
// and so it must extend the record.
func TestTrapL14LateDuplicateOfAClaimKeepsTheRecordAlive(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second, MaxHold: time.Millisecond} // no renewals
		sc := b.service(cfg).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		again := b.repeated()
		time.Sleep(2900 * time.Millisecond)
		again()
		time.Sleep(2900 * time.Millisecond)
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		time.Sleep(cfg.Retention - 10*time.Millisecond)
		mustHold(b, start(b, sc, "k"), `"done"`)
	})
}

// TestTrapL14LateDuplicateOfTheLockAloneKeepsTheRetention extends the lock alone, as a step of a
// claim does that comes late while the slot migrates.
func TestTrapL14LateDuplicateOfTheLockAloneKeepsTheRetention(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second, MaxHold: time.Millisecond} // no renewals
		sc := b.service(cfg).Scope("a")
		start(b, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(b, err, nil)
		time.Sleep(2900 * time.Millisecond)
		b.server.SetTTL(b.lock(), cfg.Lease)
		time.Sleep(2900 * time.Millisecond)
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		time.Sleep(cfg.Retention - 10*time.Millisecond)
		mustHold(b, start(b, sc, "k"), `"done"`)
	})
}

func TestTrapL18OnlyTheServersClockCounts(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				clock := time.Now().Add(skew)
				b.server.SetTime(clock)
				one, two := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
				lease := locked(b, one, "k")
				if key := lease.Key(); !key.CreatedAt.Equal(clock) || !key.LockedAt.Equal(clock) {
					b.Errorf("created %v, locked %v by a clock of %v", key.CreatedAt, key.LockedAt, clock)
				}
				// From here on time passes on the server alone: the lease is over when the server
				// says so.
				b.server.SetTime(clock.Add(9 * time.Second))
				_, err := two.Do(ctx, "k", request, never(b))
				var busy *redisidem.LockedError
				if !errors.As(err, &busy) || busy.RetryAfter != time.Second {
					b.Errorf("error is %#v", err)
				}
				b.server.SetTime(clock.Add(10*time.Second + time.Millisecond))
				_, err = two.Do(ctx, "k", request, finish("by two"))
				mustBe(b, err, nil)
				_, err = lease.Commit(ctx, redisidem.Outcome{})
				mustBe(b, err, redisidem.ErrFenced)
			})
		})
	}
}

// TestLeaseKnowsWhenItWasGrantedAfterAClockWasSetBack claims a key while the server's clock is
// ahead, and after it was set back. The fence grows nevertheless, and is no time then.
func TestLeaseKnowsWhenItWasGrantedAfterAClockWasSetBack(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, now := range []time.Time{clock.Add(72 * time.Hour), clock, clock.Add(time.Second)} {
			b.server.SetTime(now)
			lease := locked(b, sc, "k")
			if at := lease.Key().LockedAt; !at.Equal(now) {
				b.Errorf("locked at %v by a clock of %v", at, now)
			}
			mustBe(b, lease.Abandon(ctx), nil)
		}
	})
}

// TestLockIsRedislocks checks that every program that uses redislock sees the lock as its own,
// although it is taken without the script of redislock.
func TestLockIsRedislocks(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		locks := redislock.New(raw)
		lease := locked(t, sc, "k")
		_, lock := e.place(lease.Key())

		_, err := locks.Obtain(ctx, lock, time.Minute, nil)
		mustBe(t, err, redislock.ErrNotObtained)
		token := raw.Get(ctx, lock).Val()
		theirs, err := locks.Obtain(ctx, lock+"-like", redisidem.DefaultLease, &redislock.Options{Token: token})
		mustBe(t, err, nil)
		if value := raw.Get(ctx, lock+"-like").Val(); value != token || token == "" {
			t.Errorf("redislock stores %q of the token, and this library %q", value, token)
		}
		// Theirs is read first: ours was taken before it and has no more left, even if time passes.
		left := raw.PTTL(ctx, lock+"-like").Val()
		if ours := raw.PTTL(ctx, lock).Val(); left-ours > 5*time.Second || ours > left {
			t.Errorf("redislock's lock has %v left, and this library's, taken before it, %v", left, ours)
		}
		mustBe(t, theirs.Release(ctx), nil)
		same, err := locks.Obtain(ctx, lock, redisidem.DefaultLease, &redislock.Options{Token: token})
		mustBe(t, err, nil)
		mustBe(t, same.Refresh(ctx, redisidem.DefaultLease, nil), nil)
		mustBe(t, lease.Abandon(ctx), nil)
		mustBe(t, same.Release(ctx), redislock.ErrLockNotHeld)

		theirs, err = locks.Obtain(ctx, lock, time.Minute, nil)
		mustBe(t, err, nil)
		_, err = sc.Lock(ctx, "k")
		mustBe(t, err, redisidem.ErrLocked)
		mustBe(t, theirs.Release(ctx), nil)
		lease, err = sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestTrapL20FenceGrowsWhenARecordIsMadeAgain(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		last := int64(0)
		for i := range 3 {
			lease := locked(t, sc, "k")
			if lease.Fence() <= last {
				t.Errorf("fence %d after %d", lease.Fence(), last)
			}
			last = lease.Fence()
			record, _ := e.place(lease.Key())
			mustBe(t, lease.Abandon(ctx), nil)
			if i > 0 {
				mustBe(t, raw.Del(ctx, record).Err(), nil) // its retention is over
			}
		}
	})
}

// TestAnswersAreGivenWhenMemoryIsFull asks through the claim, whose lock cannot be written then.
func TestAnswersAreGivenWhenMemoryIsFull(t *testing.T) {
	t.Parallel()
	for _, cfg := range []redisidem.Config{{}, {AutoPipeline: true}, {Durability: 1}} {
		t.Run(fmt.Sprintf("auto=%t/durability=%d", cfg.AutoPipeline, cfg.Durability), func(t *testing.T) {
			t.Parallel()
			cfg.Timeout = 5 * time.Second
			server := rediscase.Replicated(t, 1).Master
			raw := server.Client()
			t.Cleanup(func() { _ = raw.Close() })
			sc := serviceOn(t, options(server.Addr(), 3), cfg).Scope("a")
			for _, value := range []string{"done", "cold"} {
				_, err := sc.Do(ctx, value, request, finish("done"))
				mustBe(t, err, nil)
			}
			lease := lockedKey(t, sc, "held")
			start(t, sc, "free")
			mustBe(t, raw.ConfigSet(ctx, "maxmemory", "1").Err(), nil)

			key, err := sc.Do(ctx, "done", request, never(t))
			mustBe(t, err, nil)
			if !key.Replayed() {
				t.Error("no replay")
			}
			_, err = sc.Do(ctx, "done", redisidem.Request{Method: "PUT"}, never(t))
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = sc.Lock(ctx, "done")
			mustBe(t, err, redisidem.ErrFinished)
			_, err = sc.Do(ctx, "held", request, never(t))
			mustBe(t, err, redisidem.ErrLocked)
			for _, value := range []string{"free", "new"} {
				_, err = sc.Do(ctx, value, request, never(t))
				mustBe(t, err, redisidem.ErrUnavailable)
			}
			mustBe(t, raw.ScriptFlush(ctx).Err(), nil)
			_, err = sc.Do(ctx, "cold", request, never(t))
			mustBe(t, err, nil)

			answers := make(chan error, 1)
			go func() {
				_, err := sc.Wait(10*time.Second).Do(ctx, "held", request, never(t))
				answers <- err
			}()
			select {
			case err := <-answers:
				t.Errorf("the waiter did not wait: %v", err)
			case <-time.After(100 * time.Millisecond):
			}
			_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
			mustBe(t, err, nil)
			mustBe(t, <-answers, nil)
		})
	}
}

func TestColdScriptCacheInTheMiddleOfAPipeline(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		server := rediscase.Server(t)
		raw := server.Client()
		t.Cleanup(func() { _ = raw.Close() })
		sc := serviceOn(t, options(server.Addr(), 3), redisidem.Config{AutoPipeline: auto, Timeout: 5 * time.Second}).Scope("a")
		for name, warm := range map[string]func() error{
			"nothing": func() error { return nil },
			"claim":   func() error { return raw.ScriptLoad(ctx, lua.Claim.Source).Err() },
			"obtain": func() error {
				lock, err := redislock.Obtain(ctx, raw, "elsewhere", time.Second, nil)
				return errors.Join(err, lock.Release(ctx))
			},
		} {
			key := start(t, sc, name)
			mustBe(t, raw.ScriptFlush(ctx).Err(), nil)
			mustBe(t, warm(), nil)
			key, err := sc.WorkStage(ctx, key, finish("done"))
			mustBe(t, err, nil)
			if key.Attempts != 1 || key.Replayed() {
				t.Errorf("with only %s known: %+v", name, key)
			}
		}
		if locks := raw.Keys(ctx, "*:lock").Val(); len(locks) != 0 {
			t.Errorf("locks left: %v", locks)
		}
	}
}

// TestClaimThatComesAfterItsAbandonTakesNothing delivers a claim a second time, after its lease was
// abandoned.
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
			b.Errorf("this is attempt %d, want 2: a late claim is not an attempt", got)
		}
		mustBe(b, next.Abandon(ctx), nil)
	})
}

// TestFormerMasterRefusesNoClaim claims on a server that has become a replica of one that it does
// not reach. Its records may be outdated, and justify no refusal.
func TestFormerMasterRefusesNoClaim(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	cfg := redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second, CommitRetry: -1}
	sc := serviceOn(t, options(server.Addr(), 3), cfg).Scope("a")
	_, err := sc.Do(ctx, "finished", request, finish("done"))
	mustBe(t, err, nil)
	old := start(t, sc, "moved")
	_, err = sc.WorkStage(ctx, old, outcome(redisidem.Advance("two")))
	mustBe(t, err, nil)
	deleted := start(t, sc, "deleted")
	mustBe(t, sc.Delete(ctx, deleted), nil)
	start(t, sc, "flow")
	flow := mustFlow(t, cart())

	mustBe(t, admin.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err(), nil)
	cfg.Timeout = 500 * time.Millisecond // each claim takes as long
	sc = serviceOn(t, options(server.Addr(), 3), cfg).Scope("a")
	other := request
	other.Path = "/other"
	for name, claim := range map[string]func() error{
		"replay":   func() error { _, err := sc.Do(ctx, "finished", request, never(t)); return err },
		"mismatch": func() error { _, err := sc.Do(ctx, "finished", other, never(t)); return err },
		"moved":    func() error { _, err := sc.WorkStage(ctx, old, never(t)); return err },
		"gone":     func() error { _, err := sc.WorkStage(ctx, deleted, never(t)); return err },
		"unknown":  func() error { _, err := sc.DoFlow(ctx, "moved", request, flow); return err },
	} {
		t.Run(name, func(t *testing.T) { mustBe(t, claim(), redisidem.ErrUnavailable) })
	}
}

// TestRepeatedClaimProlongsTheRecord repeats a claim. What extends the lock must extend the record
// too: a worker that still holds the lock must find the record to commit in.
func TestRepeatedClaimProlongsTheRecord(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second, MaxHold: time.Millisecond} // no renewals
		sc := b.service(cfg).Scope("a")
		lease := locked(b, sc, "k")
		again := b.repeated()
		for range 3 {
			time.Sleep(2900 * time.Millisecond)
			again()
		}
		_, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		mustHold(b, start(b, sc, "k"), `"done"`)
	})
}

func TestTrapS9EveryPathChecksTheRequest(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc := svc.Scope("a")
		lease := locked(t, sc, "in flight")
		start(t, sc, "at rest")
		_, err := sc.Do(ctx, "finished", request, finish("done"))
		mustBe(t, err, nil)
		other := otherRequests["params"]
		for _, value := range []string{"in flight", "at rest", "finished"} {
			for path, try := range map[string]func() error{
				"InitializeRequest": func() error { _, err := sc.InitializeRequest(ctx, value, other); return err },
				"Scope.Do":          func() error { _, err := sc.Do(ctx, value, other, never(t)); return err },
				"a waiter":          func() error { _, err := sc.Wait(time.Hour).Do(ctx, value, other, never(t)); return err },
				"Do": func() error {
					_, _, err := redisidem.Do(ctx, sc, value, other, func(context.Context, *redisidem.Stage) (int, error) {
						t.Error("the callback ran")
						return 0, nil
					})
					return err
				},
			} {
				if err := try(); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
					t.Errorf("%s of a key %s: %v", path, value, err)
				}
			}
		}
		// The key was read before its record was made again for another request.
		seen := start(t, sc, "at rest")
		mustBe(t, sc.Delete(ctx, seen), nil)
		_, err = sc.InitializeRequest(ctx, "at rest", other)
		mustBe(t, err, nil)
		_, err = sc.WorkStage(ctx, seen, never(t))
		mustBe(t, err, redisidem.ErrFingerprintMismatch)
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestTrapS10MismatchComesBeforeLocked(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		lease := locked(t, sc, "k")
		for what, other := range otherRequests {
			_, err := sc.Do(ctx, "k", other, never(t))
			if !errors.Is(err, redisidem.ErrFingerprintMismatch) || errors.Is(err, redisidem.ErrLocked) {
				t.Errorf("another %s: %v", what, err)
			}
		}
		_, err := sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrLocked)
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestStaleViewCannotTakeOrReleaseAnUncontestedLease(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		raw := e.client()
		stale := start(t, other, "k")
		_, lock := e.place(stale)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		_, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		if err != nil || !held {
			t.Fatal(held, err)
		}
		mustBe(t, raw.Del(ctx, lock).Err(), nil) // the lock lapses
		fresh, err := other.WorkStage(ctx, stale, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			t.Error("the callback ran on a stale view")
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
		if fresh.RecoveryPoint != "next" || fresh.Attempts != 1 {
			t.Errorf("fresh is %+v", fresh)
		}
		if n := raw.Exists(ctx, lock).Val(); n != 0 {
			t.Error("a lock is left")
		}
		key, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "mine")))
		mustBe(t, err, nil)
		if !key.Finished() {
			t.Error("not finished")
		}
		e.mustBeTidy(raw)
	})
}

func TestMismatchAndGoneStrandNoLock(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		_, err := sc.Do(ctx, "k", redisidem.Request{Method: "PUT"}, finish("x"))
		mustBe(t, err, redisidem.ErrFingerprintMismatch)
		_, err = sc.Lock(ctx, "absent")
		mustBe(t, err, redisidem.ErrNotFound)
		e.mustBeTidy(e.client())
		_, err = sc.WorkStage(ctx, key, finish("x"))
		mustBe(t, err, nil)
		_, err = sc.Lock(ctx, "k")
		mustBe(t, err, redisidem.ErrFinished)
		e.mustBeTidy(e.client())
	})
}

func TestShortLeaseCallerNeverShortensAnothersLock(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		long := e.service(func(c *redisidem.Config) { c.Lease = time.Minute }).Scope("a")
		short := e.service(func(c *redisidem.Config) { c.Lease = time.Second }).Scope("a")
		key := start(t, long, "k")
		_, lock := e.place(key)
		lease, err := long.Lock(ctx, "k")
		mustBe(t, err, nil)
		for _, seen := range []*redisidem.Key{key, start(t, short, "k")} {
			_, err = short.WorkStage(ctx, seen, finish("x"))
			mustBe(t, err, redisidem.ErrLocked)
		}
		if left := e.client().PTTL(ctx, lock).Val(); left < 50*time.Second {
			t.Errorf("%v left of a minute, want at least %v", left, 50*time.Second)
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

func TestLockThatOutlivesItsLeaseIsReanchored(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other := e.service().Scope("a"), e.service().Scope("a")
		key := start(t, sc, "k")
		_, lock := e.place(key)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		// The rest of the lease looks this long after the server's clock was set back by an hour.
		mustBe(t, e.client().PExpire(ctx, lock, time.Hour).Err(), nil)
		_, err = other.WorkStage(ctx, key, finish("x"))
		mustBe(t, err, redisidem.ErrLocked)
		if left := e.client().PTTL(ctx, lock).Val(); left > 10*time.Second {
			t.Errorf("%v left of a 10 s lease, want at most %v", left, 10*time.Second)
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}
