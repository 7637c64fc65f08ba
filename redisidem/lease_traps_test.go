package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// Traps of leases, locks and fences that other idempotency libraries fell into, one test for each.

// silent is the configuration of a worker that soon renews no more, as if it had died.
var silent = redisidem.Config{MaxHold: time.Second}

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

func TestTrapL4OnlyAnotherClaimRefusesALateCommit(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other, raw := e.service().Scope("a"), e.service().Scope("a"), e.client()
		for name, c := range map[string]struct {
			between func(key *redisidem.Key)
			want    error
		}{
			"nobody": {func(*redisidem.Key) {}, nil},
			"a reader": {func(key *redisidem.Key) {
				_, err := other.Retrieve(ctx, key.Value)
				mustBe(t, err, nil)
			}, nil},
			"a claim given back": {func(key *redisidem.Key) {
				mustBe(t, locked(t, other, key.Value).Abandon(ctx), nil)
			}, redisidem.ErrFenced},
			"an unlock": {func(key *redisidem.Key) {
				mustBe(t, other.Unlock(ctx, key.Value), nil)
			}, redisidem.ErrFenced},
			"an update": {func(key *redisidem.Key) {
				_, err := other.Update(ctx, key, redisidem.Advance("elsewhere"))
				mustBe(t, err, nil)
			}, redisidem.ErrFenced},
		} {
			lease := locked(t, sc, name)
			lapse(t, e, raw, lease.Key())
			c.between(lease.Key())
			if _, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "late"))); !errors.Is(err, c.want) {
				t.Errorf("%s in between: %v, want %v", name, err, c.want)
			}
			if stored := start(t, sc, name).Finished(); stored != (c.want == nil) {
				t.Errorf("%s in between: finished is %v", name, stored)
			}
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

func TestTrapL7EveryWayOutReleasesTheLease(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		for name, end := range map[string]func() (redisidem.Outcome, error){
			"return":            func() (redisidem.Outcome, error) { return redisidem.Advance("next"), nil },
			"error":             func() (redisidem.Outcome, error) { return redisidem.Outcome{}, errUpstream },
			"unstorable":        func() (redisidem.Outcome, error) { return redisidem.Finish(redisidem.JSON(999, "")), nil },
			"no progress":       func() (redisidem.Outcome, error) { return redisidem.Advance(redisidem.Started), nil },
			"panic":             func() (redisidem.Outcome, error) { panic("a bug") },
			"panic with nil":    func() (redisidem.Outcome, error) { panic(nil) },
			"ErrAbortHandler":   func() (redisidem.Outcome, error) { panic(http.ErrAbortHandler) },
			"runtime.Goexit":    func() (redisidem.Outcome, error) { runtime.Goexit(); return redisidem.Outcome{}, nil },
			"panic in deferred": func() (redisidem.Outcome, error) { defer panic("second"); panic("first") },
		} {
			start(t, sc, name)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				_, _ = sc.Do(ctx, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return end() })
			}()
			<-ended
			e.mustBeTidy(raw)
			_, err := sc.Do(ctx, name, request, finish("done"))
			if want := name == "unstorable"; err != nil && !want || errors.Is(err, redisidem.ErrNotKept) != want {
				t.Errorf("after %s: %v", name, err)
			}
		}
	})
}

func TestTrapL8CancelledCallerStillStoresAndReleases(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for name, result := range map[string]error{"stores": nil, "releases": errUpstream} {
			start(t, sc, name)
			gone, cancel := context.WithCancel(ctx)
			_, err := sc.Do(gone, name, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				cancel()
				return redisidem.Finish(redisidem.JSON(200, "done")), result
			})
			mustBe(t, err, result)
			if key := start(t, sc, name); key.Finished() != (result == nil) {
				t.Errorf("%s: the key is %+v", name, key)
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestTrapL9UnstoredResultIsNotThrownAway(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc, other := b.service(redisidem.Config{}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Finish(redisidem.JSON(200, "charged")), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		key, err := other.Wait(5*time.Second).Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		mustHold(b, key, `"charged"`)
	})
}

func TestTrapL9KeyStaysLockedAfterAnUnknownCommit(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{CommitRetry: -1}).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			b.freeze()
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		b.thaw()
		_, err = sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		time.Sleep(redisidem.DefaultLease)
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 {
				b.Errorf("attempt %d does not tell of the run whose fate is unknown", st.Attempt())
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(b, err, nil)
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

func TestTrapL11WaitHasABudgetOfItsOwn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		lease := locked(b, sc, "k")
		for budget, want := range map[time.Duration]time.Duration{
			0: 0, -time.Hour: 0, time.Millisecond: time.Millisecond, 3 * time.Second: 3 * time.Second,
			time.Minute: time.Minute, // longer than the lease, which is renewed
		} {
			began := time.Now()
			_, err := sc.Wait(budget).Lock(ctx, "k")
			mustBe(b, err, redisidem.ErrLocked)
			if took := time.Since(began); took != want {
				b.Errorf("a budget of %v took %v", budget, took)
			}
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		_, err := sc.Wait(time.Minute).Lock(short, "k")
		mustBe(b, err, context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			b.Errorf("a context of 1s took %v", took)
		}
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

func TestTrapL12ImpossibleDurationsAreRefused(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true}) // never dialled
	defer func() { _ = client.Close() }()
	for _, d := range []time.Duration{-time.Second, time.Nanosecond, time.Millisecond - 1, 1<<63 - 1} {
		for field, cfg := range map[string]redisidem.Config{
			"Config.Lease": {Lease: d}, "Config.Retention": {Retention: d}, "Config.Timeout": {Timeout: d},
		} {
			_, err := redisidem.New(client, &cfg)
			mustBeInvalid(t, err, field)
		}
	}
	_, err := redisidem.New(client, &redisidem.Config{MaxHold: time.Nanosecond})
	mustBeInvalid(t, err, "Config.MaxHold")
	_, err = redisidem.New(client, &redisidem.Config{Lease: time.Minute, Retention: time.Second})
	mustBeInvalid(t, err, "Config.Retention")
	_, err = redisidem.New(client, &redisidem.Config{
		Lease: 10 * time.Millisecond, Retention: 10 * time.Millisecond, Timeout: time.Millisecond, MaxHold: -1,
	})
	mustBe(t, err, nil)
}

func TestTrapL13SilenceIsNotLoss(t *testing.T) {
	inBubble(t, func(b *bubble) {
		lease := locked(b, b.service(redisidem.Config{}).Scope("a"), "k")
		work := lease.Context()
		b.freeze()
		time.Sleep(redisidem.DefaultLease / 2)
		b.thaw()
		time.Sleep(redisidem.DefaultLease)
		if work.Err() != nil {
			b.Fatalf("cancelled after half a lease of silence: %v", context.Cause(work))
		}
		b.freeze()
		<-work.Done()
		mustBe(b, context.Cause(work), redisidem.ErrLeaseLost)
		if b.server.TTL(b.lock()) <= 0 {
			b.Error("another owner could have started before the context was cancelled")
		}
		b.thaw()
		_ = lease.Abandon(ctx)
	})
}

// A lease that was called lost is not renewed any more: nobody works under it, and others wait for
// its end.
func TestTrapL13LostLeaseIsNotRenewed(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 9 * time.Second, Timeout: 3 * time.Second}
		var renewed, lost atomic.Int64
		cfg.Observer = observes(func(e redisidem.Event) {
			switch {
			case e.Kind == redisidem.EventLeaseLost:
				lost.Add(1)
			case e.Kind == redisidem.EventRenewed && lost.Load() > 0:
				renewed.Add(1)
			}
		})
		sc, other := b.service(cfg).Scope("a"), b.service(redisidem.Config{Lease: cfg.Lease}).Scope("a")
		lease := locked(b, sc, "k")
		b.freeze()
		time.AfterFunc(cfg.Lease/10*9+time.Millisecond, b.thaw) // a renewal is under way then, and is repeated
		<-lease.Context().Done()
		mustBe(b, context.Cause(lease.Context()), redisidem.ErrLeaseLost)
		time.Sleep(2 * cfg.Lease)
		if lost.Load() != 1 || renewed.Load() != 0 {
			b.Errorf("lost %d times, and renewed %d times after that", lost.Load(), renewed.Load())
		}
		mustBe(b, lease.Renew(ctx), redisidem.ErrLeaseLost)
		_, err := other.Do(ctx, "k", request, finish("by another"))
		mustBe(b, err, nil)
		_ = lease.Abandon(ctx)
	})
}

func TestTrapL14RenewalKeepsTheRecordAlive(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Lease: 3 * time.Second, Retention: 3 * time.Second}).Scope("a")
		key := start(b, sc, "k")
		key, err := sc.WorkStage(ctx, key, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			for range 30 {
				time.Sleep(time.Second)
				_, err := sc.Retrieve(ctx, "k")
				mustBe(b, err, nil)
			}
			return redisidem.Finish(redisidem.JSON(200, "done")), nil
		})
		mustBe(b, err, nil)
		mustHold(b, key, `"done"`)
	})
}

// A commit that keeps the lease begins it anew: its holder believes so, and nobody else may have the key until then.
func TestTrapL14KeptCommitProlongsTheLock(t *testing.T) {
	inBubble(t, func(b *bubble) {
		cfg := redisidem.Config{Lease: 3 * time.Second}
		sc := b.service(cfg).Scope("a")
		lease := locked(b, sc, "k")
		time.Sleep(cfg.Lease / 4) // before the first renewal
		_, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		mustBe(b, err, nil)
		if left := b.server.TTL(b.lock()); !held || left != cfg.Lease {
			b.Errorf("held is %t, and the lock has %v left, want all of %v", held, left, cfg.Lease)
		}
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

// A late duplicate of the claim prolongs the lock, and so it must prolong the record.
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

// A claim and redislock's script before it are two scripts: a connection that breaks between them lets a late duplicate prolong
// the lock alone.
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

// A commit whose reply was lost was stored, and "fenced" would say that it was not.
func TestTrapL14CommitInARecordThatIsGoneIsUnknown(t *testing.T) {
	for name, remake := range map[string]bool{"deleted": false, "made anew": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				rec := &recorder{}
				sc, other := b.service(redisidem.Config{Observer: rec}).Scope("a"), b.service(redisidem.Config{}).Scope("a")
				_, err := sc.Do(ctx, "warm up", request, finish("the server knows the script"))
				mustBe(b, err, nil)
				lease := locked(b, sc, "k")
				b.mute()
				go func() {
					time.Sleep(100 * time.Millisecond)
					b.freeze() // which breaks the connections
					b.thaw()
					key, err := other.Retrieve(ctx, "k")
					mustBe(b, err, nil)
					mustHold(b, key, `"done"`)
					mustBe(b, other.Delete(ctx, key), nil)
					if remake {
						start(b, other, "k")
					}
				}()
				_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
				mustBe(b, err, redisidem.ErrOutcomeUnknown)
				if rec.count(redisidem.EventOutcomeUnknown) != 1 || rec.count(redisidem.EventLeaseLost) != 0 {
					b.Errorf("events: %v", rec.kinds())
				}
			})
		})
	}
}

func TestTrapL15HoldIsCapped(t *testing.T) {
	inBubble(t, func(b *bubble) {
		capped := locked(b, b.service(redisidem.Config{MaxHold: 30 * time.Second}).Scope("a"), "capped")
		free := locked(b, b.service(redisidem.Config{MaxHold: -1}).Scope("a"), "free")
		sc := b.service(redisidem.Config{}).Scope("a")
		began := time.Now()
		<-capped.Context().Done()
		mustBe(b, context.Cause(capped.Context()), redisidem.ErrMaxHold)
		if took := time.Since(began); took != 30*time.Second {
			b.Errorf("cancelled after %v", took)
		}
		_, err := sc.Wait(redisidem.DefaultLease+time.Second).Do(ctx, "capped", request, finish("by another"))
		mustBe(b, err, nil)
		time.Sleep(2 * redisidem.DefaultMaxHold)
		mustBe(b, free.Context().Err(), nil)
		_, err = sc.Do(ctx, "free", request, never(b))
		mustBe(b, err, redisidem.ErrLocked)
		_, err = free.Commit(ctx, redisidem.Outcome{})
		mustBe(b, err, nil)
		_, err = capped.Commit(ctx, redisidem.Outcome{})
		mustBe(b, err, redisidem.ErrFenced)
	})
}

// A lease that its program has forgotten holds up Close for no longer than MaxHold.
func TestTrapL15ForgottenLeaseDoesNotHoldUpClose(t *testing.T) {
	for name, outage := range map[string]bool{"renewed": false, "lost before": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				began := time.Now()
				svc := b.service(redisidem.Config{MaxHold: time.Minute})
				forgotten := locked(b, svc.Scope("a"), "k")
				if outage {
					b.freeze()
					<-forgotten.Context().Done()
					b.thaw()
				}
				mustBe(b, svc.Close(ctx), nil)
				if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
					b.Errorf("closed %v after the lease began", took)
				}
				mustBe(b, forgotten.Abandon(ctx), nil)
			})
		})
	}
}

func TestTrapL15CloseWaitsForACallbackThatHangs(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{MaxHold: time.Minute})
		var ended atomic.Bool
		go func() {
			_, _ = svc.Scope("a").Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(time.Hour)
				ended.Store(true)
				return redisidem.Outcome{}, errUpstream
			})
		}()
		synctest.Wait()
		mustBe(b, svc.Close(ctx), nil)
		if !ended.Load() {
			b.Error("closed under a callback")
		}
	})
}

func TestTrapL16NestedCallReturnsAtOnce(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a").Wait(time.Hour)
		_, err := sc.Do(ctx, "k", request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			_, err := sc.WorkStage(ctx, st.Key(), never(t))
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Lock(ctx, "k")
			mustBe(t, err, redisidem.ErrNested)
			_, err = sc.Do(ctx, "inner", request, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
				_, err := sc.Lock(ctx, "k") // two levels up
				mustBe(t, err, redisidem.ErrNested)
				return redisidem.Outcome{}, nil
			})
			return redisidem.Outcome{}, err
		})
		mustBe(t, err, nil)
	})
}

func TestTrapL17ImpatientWaiterChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		lease := locked(t, e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a"), "k")
		other, raw := e.service().Scope("a"), e.client()
		record, lock := e.place(lease.Key())
		look := func() (map[string]string, string) {
			fields := raw.HGetAll(ctx, record).Val()
			// A try that was under way when the context ended is given back.
			fields["control"] = strings.Join(readControl(raw, record)[:controlSpent], " ")
			delete(fields, "waiting") // where the waiter wants to be told
			return fields, raw.Get(ctx, lock).Val()
		}
		before, token := look()
		_, err := other.Wait(50*time.Millisecond).Do(ctx, "k", request, never(t))
		mustBe(t, err, redisidem.ErrLocked)
		if after, now := look(); !maps.Equal(before, after) || now != token {
			t.Errorf("changed from %q, %q to %q, %q", before, token, after, now)
		}
		impatient, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err = other.Wait(time.Hour).Do(impatient, "k", request, never(t))
		mustBe(t, err, context.DeadlineExceeded)
		if after, now := look(); !maps.Equal(before, after) || now != token {
			t.Errorf("changed from %q, %q to %q, %q", before, token, after, now)
		}
		_, err = lease.Commit(ctx, redisidem.Outcome{})
		mustBe(t, err, nil)
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
				// From here on time passes on the server alone: its lease is over when the server says so.
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

// go-redis repeats commands, too, and does not tell.
func TestTrapL14CommitThatTheClientRepeatedIsUnknownWhenItsRecordIsGone(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%t", auto), func(t *testing.T) {
			t.Parallel()
			proxy := rediscase.Proxy(t, server.Addr())
			opt := options(proxy.Addr(), 3)
			opt.MaxRetries, opt.MinRetryBackoff, opt.MaxRetryBackoff = 3, 100*time.Millisecond, 200*time.Millisecond
			cfg := redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second, AutoPipeline: auto}
			sc := serviceOn(t, opt, cfg).Scope("a")
			cfg.AutoPipeline = false
			other := serviceOn(t, options(server.Addr(), 3), cfg).Scope("a")
			_, err := sc.Do(ctx, "the server knows the script", request, finish("done"))
			mustBe(t, err, nil)

			lease := locked(t, sc, "k")
			struck := proxy.Once(redistest.LoseReply, lua.Commit.SHA)
			deleted := make(chan error, 1)
			go func() {
				<-struck
				key, err := other.Retrieve(ctx, "k")
				if err == nil {
					err = other.Delete(ctx, key)
				}
				deleted <- err
			}()
			_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
			mustBe(t, <-deleted, nil)
			if errors.Is(err, redisidem.ErrFenced) {
				t.Errorf("a commit that was stored is told as %v", err)
			}
		})
	}
}

// The lock is redislock's for every program that uses it, although a fresh one is taken without its script.
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
		if ours, left := raw.PTTL(ctx, lock).Val(), raw.PTTL(ctx, lock+"-like").Val(); left-ours > 5*time.Second || ours > left {
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

func TestTrapL21OldOwnersLateEffectCanBeRefused(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		// The bank takes no order with a smaller fence than the last one, and each outbound key once.
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
