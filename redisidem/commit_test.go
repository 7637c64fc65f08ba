package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bsm/redislock"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

func TestTrapL4OnlyAnotherClaimRefusesALateCommit(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, other, raw := e.service().Scope("a"), e.service().Scope("a"), e.client()
		for name, c := range map[string]struct {
			between func(key *redisidem.Key)
			want    error
		}{
			"no call": {func(*redisidem.Key) {}, nil},
			"a reader": {func(key *redisidem.Key) {
				_, err := other.Retrieve(ctx, key.Value)
				mustBe(t, err, nil)
			}, nil},
			"an abandoned claim": {func(key *redisidem.Key) {
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

// TestLateCommitLeavesTheLockToItsOwner checks that a commit whose lease has lapsed is stored, and
// that a program that knows only the lock, and has taken it since then, keeps it.
func TestLateCommitLeavesTheLockToItsOwner(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		lease := locked(t, sc, "k")
		_, lock := e.place(lease.Key())
		mustBe(t, raw.Del(ctx, lock).Err(), nil) // it lapses
		theirs, err := redislock.New(raw).Obtain(ctx, lock, time.Minute, nil)
		mustBe(t, err, nil)

		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(t, err, nil)
		if token := raw.Get(ctx, lock).Val(); token != theirs.Token() {
			t.Errorf("after the late commit the lock holds %q, want %q", token, theirs.Token())
		}
		mustBe(t, theirs.Release(ctx), nil)
	})
}

// TestTrapL14KeptCommitProlongsTheLock checks that a commit that keeps the lease begins it anew:
// its holder relies on it, and no other worker may take the key until then.
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

// TestTrapL14CommitInARecordThatIsGoneIsUnknown loses the reply of a commit whose record is then
// deleted. The commit was stored, and ErrFenced would say that it was not.
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

// TestTrapL14CommitThatTheClientRepeatedIsUnknownWhenItsRecordIsGone has a client that repeats
// commands itself and does not report it.
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
				t.Errorf("a commit that was stored returns %v", err)
			}
		})
	}
}

func TestCommitLandsWhenMemoryIsFull(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	raw := server.Client()
	defer func() { _ = raw.Close() }()
	sc := serviceOn(t, options(server.Addr(), 3), redisidem.Config{Timeout: 2 * time.Second}).Scope("a")
	given := lockedKey(t, sc, "given back")
	key := start(t, sc, "k")
	next := start(t, sc, "next")
	key, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		mustBe(t, raw.ConfigSet(ctx, "maxmemory", "1").Err(), nil)
		return redisidem.Finish(redisidem.JSON(201, "done")), nil
	})
	mustBe(t, err, nil)
	if !key.Finished() {
		t.Error("not finished")
	}
	mustBe(t, given.Renew(ctx), nil)
	mustBe(t, given.Abandon(ctx), nil)
	_, err = sc.WorkStage(ctx, next, never(t))
	mustBe(t, err, redisidem.ErrUnavailable)
	key, err = sc.InitializeRequest(ctx, "k", request)
	mustBe(t, err, nil)
	if !key.Replayed() {
		t.Error("no replay")
	}
}

func TestRepeatedKeptCommitReportsThatTheLeaseIsGone(t *testing.T) {
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

func TestSeedM2CommitNeedsTheNewestFence(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		one, two := e.service().Scope("a"), e.service().Scope("a")
		older := locked(t, one, "k")
		lapse(t, e, e.client(), older.Key())
		newer := locked(t, two, "k")
		if newer.Fence() <= older.Fence() {
			t.Errorf("fence %d after %d", newer.Fence(), older.Fence())
		}
		_, err := older.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "older")))
		mustBe(t, err, redisidem.ErrFenced)
		_, err = newer.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "newer")))
		mustBe(t, err, nil)
		mustHold(t, start(t, one, "k"), `"newer"`)
	})
}

func TestTrapS6RecordIsCheckedAgainInTheCommit(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		_, err := sc.Do(ctx, "gone", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			record, lock := e.place(st.Key())
			for _, k := range []string{record, lock} {
				mustBe(t, raw.Del(ctx, k).Err(), nil)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, redisidem.ErrOutcomeUnknown)
		if left := e.keys(raw); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		_, err = sc.Do(ctx, "moved", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			lapse(t, e, raw, st.Key())
			_, err := sc.Update(ctx, st.Key(), redisidem.Finish(redisidem.JSON(200, "by hand")))
			mustBe(t, err, nil)
			return redisidem.Finish(redisidem.JSON(200, "by the stage")), nil
		})
		mustBe(t, err, redisidem.ErrFenced)
		mustHold(t, start(t, sc, "moved"), `"by hand"`)
	})
}

func TestTrapS8CompletionKeepsTheFingerprint(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for _, o := range []redisidem.Outcome{
			redisidem.Advance("next"), redisidem.Interim("confirm", redisidem.JSON(202, "")), redisidem.Finish(redisidem.JSON(200, "done")),
		} {
			_, err := sc.Do(ctx, "k", request, returns(o))
			mustBe(t, err, nil)
			start(t, sc, "k")
			_, err = sc.InitializeRequest(ctx, "k", otherRequests["params"])
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
		}
	})
}

func TestInterimCommitWhoseReplyWasLostIsNotCalledFenced(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		other := e.service().Scope("a")
		sc := svc.Scope("a")
		key := start(t, sc, "k")
		w.mu.Lock()
		w.lose, w.then = lua.Commit, func() {
			_, err := other.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Interim("started", redisidem.JSON(202, "other")), nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		w.mu.Unlock()
		got, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Interim("started", redisidem.JSON(202, "mine")), nil
		})
		mustBe(t, err, nil)
		if !got.Answered() || string(got.Response.Body) != `"mine"` || got.Revision != 1 {
			t.Errorf("got %+v", got)
		}
		if now := start(t, sc, "k"); now.Revision != 2 || string(now.Response.Body) != `"other"` {
			t.Errorf("stored %+v", now)
		}
	})
}

func TestKeptCommitAfterExpiryReportsThatTheLeaseIsGone(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a") // which is not renewed in the meantime
		raw := e.client()
		key := start(t, sc, "k")
		_, lock := e.place(key)
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		// The lock lapsed, and another worker is between its two steps: it has the lock, and no
		// claim yet.
		mustBe(t, raw.Set(ctx, lock, "another worker's token", time.Minute).Err(), nil)
		next, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
		mustBe(t, err, nil)
		if held || next.RecoveryPoint != "next" {
			t.Errorf("held %v, key %+v", held, next)
		}
		mustBe(t, context.Cause(lease.Context()), redisidem.ErrLeaseLost)
		_, _, err = lease.CommitKeep(ctx, redisidem.Advance("third"))
		mustBe(t, err, redisidem.ErrLeaseEnded)
		if got := raw.Get(ctx, lock).Val(); got != "another worker's token" {
			t.Errorf("the lock is %q", got)
		}
		mustBe(t, raw.Del(ctx, lock).Err(), nil)
		key, err = sc.Wait(5*time.Second).WorkStage(ctx, next, finish("x"))
		mustBe(t, err, nil)
		if !key.Finished() {
			t.Error("not finished")
		}
	})
}

func TestConcurrentKeptCommitsAreOneAfterTheOther(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		lease, err := sc.Lock(ctx, "k")
		mustBe(t, err, nil)
		var wg sync.WaitGroup
		revisions := make([]int64, 2)
		for i := range revisions {
			wg.Go(func() {
				key, _, err := lease.CommitKeep(ctx, redisidem.Advance(fmt.Sprint("point", i)))
				if err != nil {
					t.Error(err)
				}
				revisions[i] = key.Revision
			})
		}
		wg.Wait()
		if revisions[0] == revisions[1] {
			t.Errorf("two commits have revision %d", revisions[0])
		}
		mustBe(t, lease.Abandon(ctx), nil)
	})
}

// TestRefusalThatNoReplicaKnowsIsUnknown checks that a refusal counts only once the replicas have
// it: after a failover, the replica would store the refused commit if it arrived once more.
func TestRefusalThatNoReplicaKnowsIsUnknown(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	replica := group.Replicas[0]
	sc := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{Durability: 1, Timeout: 2 * time.Second}).Scope("a")

	for _, known := range []bool{true, false} {
		key := start(t, sc, fmt.Sprintf("k-%t", known))
		lease, err := sc.Lock(ctx, key.Value)
		mustBe(t, err, nil)
		mustBe(t, sc.Unlock(ctx, key.Value), nil)
		_, err = sc.WorkStage(ctx, key, finish("successor"))
		mustBe(t, err, nil)
		want := redisidem.ErrFenced
		if !known {
			mustBe(t, replica.Pause(), nil)
			want = redisidem.ErrOutcomeUnknown
		}
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "late")))
		mustBe(t, err, want)
		if !known {
			mustBe(t, replica.Resume(), nil)
		}
	}
}

// TestCommitAlthoughTheKeyWasOverwritten checks that the fields of a key that a program has do not
// decide which record its lease commits to.
func TestCommitAlthoughTheKeyWasOverwritten(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		lease := locked(b, sc, "k")
		*lease.Key() = redisidem.Key{RecoveryPoint: redisidem.Started}
		_, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
		mustBe(b, err, nil)
		key, err := sc.Retrieve(ctx, "k")
		mustBe(b, err, nil)
		if !key.Finished() {
			b.Errorf("the key is at %q", key.RecoveryPoint)
		}
	})
}
