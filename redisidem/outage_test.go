package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// serviceOn makes a service on a client with those options.
func serviceOn(t *testing.T, opt *redis.Options, cfg redisidem.Config) *redisidem.Service {
	t.Helper()
	client := redis.NewClient(opt)
	svc, err := redisidem.New(client, &cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = svc.Close(short) // what was given up in an outage may still be on its way
		_ = client.Close()
	})
	return svc
}

func TestOutageIsBounded(t *testing.T) {
	t.Parallel()
	const timeout, grace, tries = 300 * time.Millisecond, 50 * time.Millisecond, 5
	refused := rediscase.Server(t)
	hole := rediscase.BlackHole(t)
	stalled := rediscase.Server(t)
	busy := rediscase.Server(t)

	// Clients close at once when their servers are gone for good, which is done first in the end.
	end := func() { stalled.Kill(); busy.Kill(); hole.Stop() }
	for _, auto := range []bool{false, true} {
		cfg := redisidem.Config{Timeout: timeout, AutoPipeline: auto, CommitRetry: -1}
		key := start(t, serviceOn(t, options(stalled.Addr(), 3), redisidem.Config{}).Scope("a"), fmt.Sprint("k", auto))
		exhausted := options(busy.Addr(), 3)
		exhausted.PoolSize, exhausted.PipelinePoolSize = 1, -1
		holder := serviceOn(t, exhausted, cfg)
		for name, svc := range map[string]*redisidem.Service{
			"refused":    serviceOn(t, options(refused.Addr(), 3), cfg),
			"black hole": serviceOn(t, options(hole.Addr(), 3), cfg),
			"stalled":    serviceOn(t, options(stalled.Addr(), 3), cfg),
			"exhausted":  holder,
		} {
			t.Run(fmt.Sprintf("%s/auto=%t", name, auto), func(t *testing.T) {
				t.Parallel()
				sc := svc.Scope("a")
				for method, call := range map[string]func() error{
					"InitializeRequest": func() error { _, err := sc.InitializeRequest(ctx, "k", request); return err },
					"Create":            func() error { _, err := sc.Create(ctx, request); return err },
					"Retrieve":          func() error { _, err := sc.Retrieve(ctx, "k"); return err },
					"Update":            func() error { _, err := sc.Update(ctx, key, redisidem.Advance("x")); return err },
					"Delete":            func() error { return sc.Delete(ctx, key) },
					"Unlock":            func() error { return sc.Unlock(ctx, "k") },
					"Lock":              func() error { _, err := sc.Lock(ctx, "k"); return err },
					"WorkStage":         func() error { _, err := sc.WorkStage(ctx, key, never(t)); return err },
					"Do":                func() error { _, err := sc.Do(ctx, "k", request, never(t)); return err },
				} {
					// The machine may be busy with other tests, which is no fault of the method's.
					best := time.Hour
					for i := 0; i < tries && best > timeout+grace; i++ {
						began := time.Now()
						mustBe(t, call(), redisidem.ErrUnavailable)
						best = min(best, time.Since(began))
					}
					if best > timeout+grace {
						t.Errorf("%s returned after %v", method, best)
					}
				}
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				_, err := sc.Lock(short, "k")
				mustBe(t, err, redisidem.ErrUnavailable)
				mustBe(t, err, context.DeadlineExceeded)
			})
		}
		if !auto {
			continue
		}
		t.Cleanup(end)
		refused.Kill()
		mustBe(t, stalled.Pause(), nil)
		mustBe(t, busy.Pause(), nil) // its one connection is taken by the first call, and the others wait for it
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

func TestDurabilityNeedsTheReplica(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%t", auto), func(t *testing.T) {
			t.Parallel()
			group := rediscase.Replicated(t, 1)
			replica := group.Replicas[0]
			sc := serviceOn(t, options(group.Master.Addr(), 3), redisidem.Config{
				Durability: 1, AutoPipeline: auto, Timeout: 2 * time.Second,
			}).Scope("a")
			// With the replica there, all is as ever. This also makes the server know the scripts.
			key, err := sc.WorkStage(ctx, start(t, sc, "warm"), finish("done"))
			mustBe(t, err, nil)
			if !key.Finished() {
				t.Error("not finished")
			}
			key = start(t, sc, "k")

			mustBe(t, replica.Pause(), nil)
			_, err = sc.WorkStage(ctx, key, never(t))
			mustBe(t, err, redisidem.ErrNotDurable)
			mustBe(t, replica.Resume(), nil)

			// The claim was given back in the background.
			key, err = sc.Wait(5*time.Second).WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				mustBe(t, replica.Pause(), nil)
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			mustBe(t, err, redisidem.ErrNotDurable)
			if !key.Finished() {
				t.Error("the result is not stored")
			}
			_, err = sc.InitializeRequest(ctx, "k", request)
			mustBe(t, err, redisidem.ErrNotDurable) // a replay of what no replica has is not durable either
			mustBe(t, replica.Resume(), nil)
			key, err = sc.InitializeRequest(ctx, "k", request)
			mustBe(t, err, nil)
			if !key.Replayed() {
				t.Error("no replay")
			}
		})
	}
}

// TestOutageSaysWhatTheServerSaidLast lets the last try end without an answer, when those before it had one.
func TestOutageSaysWhatTheServerSaidLast(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{Timeout: 2 * time.Second})
		b.server.SetError("LOADING Redis is loading the dataset in memory")
		go func() {
			time.Sleep(time.Second)
			b.mute()
		}()
		_, err := svc.Scope("a").InitializeRequest(ctx, "k", request)
		mustBe(b, err, redisidem.ErrUnavailable)
		if !strings.Contains(err.Error(), "LOADING") {
			b.Errorf("the error is %v", err)
		}
		b.thaw()
	})
}
