package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// split is a slot in the middle of its move from one master to another.
type split struct {
	t        *testing.T
	from, to *redis.Client
	addr     string // of the target
}

// splitSlot begins to move the slot of a record, and ends it with the test.
func splitSlot(t *testing.T, c *redistest.Cluster, client redis.UniversalClient, record string) *split {
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
	s := &split{t: t, from: source.Client(), to: target.Client(), addr: target.Addr()}
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
func (s *split) move(key string) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.addr)
	s.do(s.from, "MIGRATE", host, port, key, 0, 5000)
}

func (s *split) do(client *redis.Client, args ...any) any {
	s.t.Helper()
	reply, err := client.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// place makes a key, and returns it with the name of its record.
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

func TestSplitSlotServesItsKeys(t *testing.T) {
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
				testSplitNewKey(t, c, e, e.service(change))
			})
			t.Run("lease", func(t *testing.T) {
				e := &env{t: t, namespace: freshNamespace(), client: dial}
				testSplitLease(t, c, e, e.service(change))
			})
		})
	}
}

func testSplitNewKey(t *testing.T, c *redistest.Cluster, e *env, svc *redisidem.Service) {
	ctx, client, sc := context.Background(), e.client(), svc.Scope("acme")
	key, record := place(t, e, sc, client, "new")
	if err := sc.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	splitSlot(t, c, client, record)
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

func testSplitLease(t *testing.T, c *redistest.Cluster, e *env, svc *redisidem.Service) {
	ctx, client, sc := context.Background(), e.client(), svc.Scope("acme")
	_, record := place(t, e, sc, client, "old")
	s := splitSlot(t, c, client, record)
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
	// Its lock is taken away, as by time, and somebody else comes.
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

// A claim that arrives without the lock, long after its lock was taken, finds that somebody else has been there.
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
		reply, err := client.Eval(ctx, lua.Claim.Source, []string{record}, token, "", "", 1000, 10000, "", "", "", before).Slice()
		if err != nil {
			t.Fatal(err)
		}
		status, _, _ := strings.Cut(fmt.Sprint(reply[0]), " ")
		return status
	}
	free := client.HGet(ctx, record, "control").Val()
	for _, step := range []struct{ token, before, want string }{
		{"a", "", "BUSY"},   // the lock is another's
		{"a", "-", "BUSY"},  // there was no record then
		{"a", free, "OWN"},  // nobody has been there
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
