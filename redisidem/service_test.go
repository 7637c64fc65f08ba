package redisidem_test

import (
	"context"
	"errors"
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
		{"cancel", lua.Cancel, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			_, err := sc.DoFlow(ctx, value, request, mustFlow(t, cart(recoverable, waitsAt(1))))
			mustBe(t, err, nil)
			arm()
			return nil, sc.Cancel(ctx, value)
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
						opt.MaxRetries, opt.ReadTimeout = -1, 500*time.Millisecond
						client := redis.NewClient(opt)
						t.Cleanup(func() { _ = client.Close() })
						return client
					}}
					sc := e.service().Scope("a")
					client := redis.NewClient(options(server.Addr(), 3)) // not by way of the faults
					t.Cleanup(func() { _ = client.Close() })
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
		if words := strings.SplitN(record["request"], " ", 6); len(words) < 6 || words[4] != value {
			continue
		}
		control := readControl(client, k)
		for _, word := range []int{controlToken, controlSpent} {
			if control[word] != "-" {
				control[word] = "set"
			}
		}
		control[controlFence], control[controlCreated] = "", ""
		record["control"] = strings.Join(control, " ")
		delete(record, "request")
		if record["canceled"] != "" {
			record["canceled"] = "set"
		}
		for field := range record {
			if strings.HasPrefix(field, "j:") {
				words := strings.SplitN(record[field], " ", 4)
				record[field] = words[3]
			}
		}
		return record
	}
	return nil
}

func TestOutageIsBounded(t *testing.T) {
	t.Parallel()
	const timeout, grace, tries = 300 * time.Millisecond, 50 * time.Millisecond, 20
	refused := rediscase.Server(t)
	hole := rediscase.BlackHole(t)
	stalled := rediscase.Server(t)
	busy := rediscase.Server(t)

	// Clients close at once when their servers are gone, so the servers are stopped first.
	end := func() { stalled.Kill(); busy.Kill(); hole.Stop() }
	for _, auto := range []bool{false, true} {
		cfg := redisidem.Config{Timeout: timeout, AutoPipeline: auto, CommitRetry: -1}
		key := start(t, serviceOn(t, options(stalled.Addr(), 3), redisidem.Config{Timeout: 5 * time.Second}).Scope("a"), fmt.Sprint("k", auto))
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
						t.Errorf("%s returned after %v, want at most %v", method, best, timeout+grace)
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
				// go-redis opens a connection for the first pipeline.
				_, err := sc.Retrieve(ctx, value)
				mustBe(t, err, nil)
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

// migration is a slot on its way from one master to another.
type migration struct {
	t        *testing.T
	from, to *redis.Client
	addr     string // of the target
}

// migrateSlot begins to move the slot of a record, and ends it with the test.
func migrateSlot(t *testing.T, c *redistest.Cluster, client redis.UniversalClient, record string) *migration {
	t.Helper()
	slot := int(client.ClusterKeySlot(context.Background(), record).Val())
	source, _, err := c.Owner(slot)
	if err != nil {
		t.Fatal(err)
	}
	target := source
	for other := 0; target == source; other += 16384 / 4 {
		if target, _, err = c.Owner(other); err != nil {
			t.Fatal(err)
		}
	}
	s := &migration{t: t, from: source.Client(), to: target.Client(), addr: target.Addr()}
	fromID, toID := s.do(s.from, "CLUSTER", "MYID"), s.do(s.to, "CLUSTER", "MYID")
	s.do(s.to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	s.do(s.from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	t.Cleanup(func() {
		for _, key := range s.from.ClusterGetKeysInSlot(context.Background(), slot, 1000).Val() {
			s.move(key)
		}
		s.do(s.to, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		s.do(s.from, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		_ = errors.Join(s.from.Close(), s.to.Close())
	})
	return s
}

// move takes one key to the other master.
func (s *migration) move(key string) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.addr)
	s.do(s.from, "MIGRATE", host, port, key, 0, 5000)
}

func (s *migration) do(client *redis.Client, args ...any) any {
	s.t.Helper()
	reply, err := client.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// place makes a key and returns it with the name of its record.
func place(t *testing.T, e *env, sc *redisidem.Scope, client redis.UniversalClient, value string) (
	key *redisidem.Key, record string,
) {
	t.Helper()
	var err error
	key, err = sc.InitializeRequest(context.Background(), value, redisidem.Request{Method: "POST", Path: "/rides"})
	if err != nil {
		t.Fatal(err)
	}
	names := e.keys(client)
	if len(names) != 1 {
		t.Fatalf("there is not one record: %q", names)
	}
	return key, names[0]
}

func TestMigratingSlotServesItsKeys(t *testing.T) {
	t.Parallel()
	needServer(t)
	c := rediscase.Cluster(t)
	dial := func() redis.UniversalClient {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	for name, change := range map[string]func(*redisidem.Config){
		"plain":   func(*redisidem.Config) {},
		"auto":    func(cfg *redisidem.Config) { cfg.AutoPipeline = true },
		"durable": func(cfg *redisidem.Config) { cfg.Durability = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("new", func(t *testing.T) {
				e := &env{t: t, namespace: freshNamespace(), client: dial}
				testNewKeyDuringMigration(t, c, e, e.service(change))
			})
			t.Run("lease", func(t *testing.T) {
				e := &env{t: t, namespace: freshNamespace(), client: dial}
				testLeaseDuringMigration(t, c, e, e.service(change))
			})
		})
	}
}

func testNewKeyDuringMigration(t *testing.T, c *redistest.Cluster, e *env, svc *redisidem.Service) {
	ctx, client, sc := context.Background(), e.client(), svc.Scope("acme")
	key, record := place(t, e, sc, client, "new")
	if err := sc.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	migrateSlot(t, c, client, record)
	ran := 0
	for range 2 {
		key, err := sc.Do(ctx, "new", redisidem.Request{Method: "POST", Path: "/rides"},
			func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				ran++
				return redisidem.Finish(redisidem.JSON(201, "ride")), nil
			})
		if err != nil || !key.Finished() || ran != 1 {
			t.Fatalf("%+v, %v after %d runs", key, err, ran)
		}
	}
	if n := client.Exists(ctx, record+":lock").Val(); n != 0 {
		t.Error("the lock was not given back")
	}
}

func testLeaseDuringMigration(t *testing.T, c *redistest.Cluster, e *env, svc *redisidem.Service) {
	ctx, client, sc := context.Background(), e.client(), svc.Scope("acme")
	_, record := place(t, e, sc, client, "old")
	s := migrateSlot(t, c, client, record)
	held, err := sc.Lock(ctx, "old")
	if err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		var locked *redisidem.LockedError
		if _, err := sc.Lock(ctx, "old"); !errors.As(err, &locked) || locked.RetryAfter <= 0 ||
			locked.RetryAfter > redisidem.DefaultLease {
			t.Fatalf("a key that is held: %v", err)
		}
	}
	refused()
	if err := held.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	s.move(record)
	refused()
	if err := held.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	if _, kept, err := held.CommitKeep(ctx, redisidem.Advance("half")); err != nil || !kept {
		t.Fatal(kept, err)
	}
	refused()
	if err := held.Abandon(ctx); err != nil {
		t.Fatal(err)
	}
	next, err := sc.Lock(ctx, "old")
	if err != nil || next.Fence() <= held.Fence() {
		t.Fatalf("%v: the fence %d follows %d", err, next.Fence(), held.Fence())
	}
	// Its lock is taken away, as by time, and another caller comes.
	if err := client.Del(ctx, record+":lock").Err(); err != nil {
		t.Fatal(err)
	}
	last, err := sc.Lock(ctx, "old")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Renew(ctx); !errors.Is(err, redisidem.ErrLeaseLost) {
		t.Errorf("a lease that was taken over is renewed: %v", err)
	}
	if _, err := next.Commit(ctx, redisidem.Finish(redisidem.JSON(201, "late"))); !errors.Is(err, redisidem.ErrFenced) {
		t.Errorf("a lease that was taken over commits: %v", err)
	}
	refused()
	if key, err := last.Commit(ctx, redisidem.Finish(redisidem.JSON(201, "ride"))); err != nil || !key.Finished() {
		t.Error(key, err)
	}
}

// TestClaimWithoutTheLockComparesTheRecord sends claims without the lock, as during a slot
// migration. A claim that arrives long after its lock was taken finds the claims in between.
func TestClaimWithoutTheLockComparesTheRecord(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := &env{t: t, namespace: freshNamespace(), client: func() redis.UniversalClient {
		client, err := embedded.client(3)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}}
	client := e.client()
	defer func() { _ = client.Close() }()
	_, record := place(t, e, e.service().Scope("acme"), client, "key")
	claim := func(token, before string) string {
		t.Helper()
		reply, err := client.Eval(ctx, lua.Claim.Source, []string{record}, token, "", 1000, 10000, "me", "", "", "", "", "", "", "", "", before).Text()
		if err != nil {
			t.Fatal(err)
		}
		status, _, _ := strings.Cut(reply, " ")
		return status
	}
	free := client.HGet(ctx, record, "control").Val()
	for _, step := range []struct{ token, before, want string }{
		{"a", "", "BUSY"},   // the lock is another's
		{"a", "-", "BUSY"},  // there was no record then
		{"a", free, "OWN"},  // no other claim has been there
		{"a", free, "OWN"},  // its repetition
		{"b", free, "BUSY"}, // a has been there
	} {
		if got := claim(step.token, step.before); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
	held := client.HGet(ctx, record, "control").Val()
	if got := claim("b", held); got != "OWN" { // whose lock lapsed
		t.Error(got)
	}
}
