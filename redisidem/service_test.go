package redisidem_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestOneFaultOnTheWireChangesNothing runs each operation once without and once with a fault that
// strikes its script. It compares the results that the caller receives, and the contents of Redis.
func TestOneFaultOnTheWireChangesNothing(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	// Each operation prepares its key and calls arm just before the call that the fault strikes.
	operations := []struct {
		name   string
		script *lua.Script
		do     func(sc *redisidem.Scope, value string, arm func()) (any, error)
	}{
		{"create", lua.Create, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			arm()
			key, err := sc.InitializeRequest(ctx, value, request)
			return keyState(key), err
		}},
		{"claim", lua.Claim, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			arm()
			key, err := sc.Do(ctx, value, request, finish("done"))
			return keyState(key), err
		}},
		{"commit", lua.Commit, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key, err := sc.Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				arm()
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			return keyState(key), err
		}},
		{"commit kept", lua.Commit, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			key, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
			mustBe(t, lease.Abandon(ctx), nil)
			return fmt.Sprint(keyState(key), held), err
		}},
		{"renew", lua.Renew, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			err := lease.Renew(ctx)
			mustBe(t, lease.Abandon(ctx), nil)
			return nil, err
		}},
		{"abandon", lua.Abandon, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			return nil, lease.Abandon(ctx)
		}},
		{"update", lua.Update, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key := start(t, sc, value)
			arm()
			key, err := sc.Update(ctx, key, redisidem.Advance("next"))
			return keyState(key), err
		}},
		{"delete", lua.Delete, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key := start(t, sc, value)
			arm()
			return nil, sc.Delete(ctx, key)
		}},
		{"unlock", lua.Unlock, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			err := sc.Unlock(ctx, value)
			mustBe(t, lease.Abandon(ctx), nil)
			return nil, err
		}},
	}
	for _, auto := range []bool{false, true} {
		for _, fault := range []redistest.Fault{
			redistest.LoseRequest, redistest.LoseReply, redistest.MuteReply, redistest.Duplicate,
		} {
			for _, op := range operations {
				t.Run(fmt.Sprintf("%v/%s/auto=%t", fault, op.name, auto), func(t *testing.T) {
					t.Parallel()
					proxy := rediscase.Proxy(t, server.Addr())
					e := &env{t: t, auto: auto, namespace: freshNamespace(), client: func() redis.UniversalClient {
						opt := options(proxy.Addr(), 3)
						opt.MaxRetries, opt.ReadTimeout = -1, 200*time.Millisecond
						client := redis.NewClient(opt)
						t.Cleanup(func() { _ = client.Close() })
						return client
					}}
					sc := e.service().Scope("a")
					client := e.client().(*redis.Client)
					e.load(client)

					want, wantErr := op.do(sc, "calm", func() {})
					var struck <-chan struct{}
					got, gotErr := op.do(sc, "struck", func() { struck = proxy.Once(fault, op.script.SHA) })
					select {
					case <-struck:
					case <-time.After(5 * time.Second):
						t.Fatal("the fault did not strike")
					}
					if fmt.Sprint(got, gotErr) != fmt.Sprint(want, wantErr) || wantErr != nil {
						t.Errorf("the caller got %v, %v; without the fault %v, %v", got, gotErr, want, wantErr)
					}
					calm, shaken := recordOf(e, client, "calm"), recordOf(e, client, "struck")
					if !maps.Equal(calm, shaken) {
						t.Errorf("Redis holds %v; without the fault %v", shaken, calm)
					}
					e.mustBeTidy(client)
				})
			}
		}
	}
}

// keyState describes a key, without the parts that differ between keys.
func keyState(key *redisidem.Key) string {
	if key == nil {
		return "none"
	}
	body := ""
	if key.Response != nil {
		body = string(key.Response.Body)
	}
	return fmt.Sprint(key.RecoveryPoint, key.Revision, key.Attempts, key.Replayed(), body)
}

// recordOf reads a record, without the parts that differ between keys.
func recordOf(e *env, client *redis.Client, value string) map[string]string {
	e.t.Helper()
	for _, k := range e.keys(client) {
		if strings.HasSuffix(k, ":lock") {
			continue
		}
		record := client.HGetAll(ctx, k).Val()
		if record["idempotency_key"] != value {
			continue
		}
		control := readControl(client, k)
		for _, word := range []int{controlToken, controlSpent} {
			if control[word] != "-" {
				control[word] = "set"
			}
		}
		control[controlFence] = ""
		record["control"] = strings.Join(control, " ")
		for _, field := range []string{"idempotency_key", "created_at", "locked_at"} {
			delete(record, field)
		}
		for field := range record {
			if strings.HasPrefix(field, "j:") {
				words := strings.SplitN(record[field], " ", 5)
				record[field] = words[2] + " " + words[4]
			}
		}
		return record
	}
	return nil
}

func TestOutageIsBounded(t *testing.T) {
	t.Parallel()
	const timeout, grace, tries = 300 * time.Millisecond, 50 * time.Millisecond, 5
	refused := rediscase.Server(t)
	hole := rediscase.BlackHole(t)
	stalled := rediscase.Server(t)
	busy := rediscase.Server(t)

	// Clients close at once when their servers are gone, so the servers are stopped first.
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
					// The machine may be busy with other tests.
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

// TestS13_ScriptsAreConstant counts the scripts on its own server.
func TestS13_ScriptsAreConstant(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	e := &env{t: t, namespace: "s13", client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	sc := e.service().Scope("a")
	scripts := func() int {
		text, err := e.client().Info(ctx, "memory").Result()
		mustBe(t, err, nil)
		for line := range strings.Lines(text) {
			var n int
			if _, err := fmt.Sscanf(line, "number_of_cached_scripts:%d", &n); err == nil {
				return n
			}
		}
		t.Fatal("the server does not tell how many scripts it has")
		return 0
	}
	run := func(n int) {
		for i := range n {
			_, err := sc.Do(ctx, fmt.Sprintf("k%d", i), request, finish(fmt.Sprint(i)))
			mustBe(t, err, nil)
		}
	}
	run(1)
	before := scripts()
	run(1000)
	if after := scripts(); after != before || after > 12 {
		t.Errorf("%d scripts, and %d after 1000 operations", before, after)
	}
}

// TestNameThatIsSwitchedToAnotherServer makes the old master a replica that keeps its connections,
// as when a name or an address moves. Its replies about records are outdated and must not count as
// refusals.
func TestNameThatIsSwitchedToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%v", auto), func(t *testing.T) {
			t.Parallel()
			before, after := rediscase.Server(t), rediscase.Server(t)
			var current atomic.Pointer[redistest.Server]
			current.Store(before)
			rdb := redis.NewClient(&redis.Options{
				Addr: "name:1", ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
				Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", current.Load().Addr())
				},
			})
			t.Cleanup(func() { _ = rdb.Close() })
			svc, err := redisidem.New(rdb, &redisidem.Config{AutoPipeline: auto, Timeout: 5 * time.Second})
			mustBe(t, err, nil)
			t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
			sc := svc.Scope("a")
			_, err = sc.Do(ctx, "k", request, finish("done"))
			mustBe(t, err, nil)

			admin := before.Client()
			t.Cleanup(func() { _ = admin.Close() })
			host, port, err := net.SplitHostPort(after.Addr())
			mustBe(t, err, nil)
			current.Store(after)
			mustBe(t, admin.Do(ctx, "REPLICAOF", host, port).Err(), nil)
			for i := range 500 {
				_, err := sc.Do(ctx, fmt.Sprint(i), request, finish("done"))
				mustBe(t, err, nil)
			}
		})
	}
}

// TestRoundTrips counts the round trips of each operation and prints them.
func TestRoundTrips(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, w := e.wired()
		sc := svc.Scope("a")
		held, err := sc.Lock(ctx, start(t, sc, "held").Value)
		mustBe(t, err, nil)
		defer func() { mustBe(t, held.Abandon(ctx), nil) }()

		for _, c := range []struct {
			what string
			want int
			// operation prepares a key and returns the call to count.
			operation func(value string) func() error
		}{
			{"InitializeRequest, new", 1, func(value string) func() error {
				return func() error { _, err := sc.InitializeRequest(ctx, value, request); return err }
			}},
			{"InitializeRequest, replay", 1, func(value string) func() error {
				_, err := sc.Do(ctx, value, request, finish("done"))
				mustBe(t, err, nil)
				return func() error { _, err := sc.InitializeRequest(ctx, value, request); return err }
			}},
			{"WorkStage", 2, func(value string) func() error {
				key := start(t, sc, value)
				return func() error { _, err := sc.WorkStage(ctx, key, finish("done")); return err }
			}},
			{"Do, first", 2, func(value string) func() error {
				return func() error { _, err := sc.Do(ctx, value, request, finish("done")); return err }
			}},
			{"Do, replay", 1, func(value string) func() error {
				_, err := sc.Do(ctx, value, request, finish("done"))
				mustBe(t, err, nil)
				return func() error { _, err := sc.Do(ctx, value, request, finish("done")); return err }
			}},
			{"Do, refused", 1, func(string) func() error {
				return func() error {
					_, err := sc.Do(ctx, "held", request, finish("done"))
					mustBe(t, err, redisidem.ErrLocked)
					return nil
				}
			}},
			{"Abandon", 1, func(value string) func() error {
				lease, err := sc.Lock(ctx, start(t, sc, value).Value)
				mustBe(t, err, nil)
				return func() error { return lease.Abandon(ctx) }
			}},
			{"Retrieve", 1, func(value string) func() error {
				start(t, sc, value)
				return func() error { _, err := sc.Retrieve(ctx, value); return err }
			}},
		} {
			// An auto-pipeliner may send the two commands of a claim in two batches.
			tries, got := 1, 1<<30
			if e.auto {
				tries = 20
			}
			for i := 0; i < tries && got != c.want; i++ {
				operation := c.operation(fmt.Sprint(c.what, i))
				w.took()
				mustBe(t, operation(), nil)
				got = min(got, w.took())
			}
			t.Logf("%-26s %d", c.what, got)
			if got != c.want {
				t.Errorf("%s takes %d round trips, want %d", c.what, got, c.want)
			}
		}
	})
}
