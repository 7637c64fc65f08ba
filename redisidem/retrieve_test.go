package redisidem_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestLargeValuesAreReadOnlyWhenReturned counts how often a server reads a whole record with large
// params and a large state, and the bytes that it sends.
func TestLargeValuesAreReadOnlyWhenReturned(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	e := &env{t: t, namespace: "large", client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	raw := e.client()
	count := func(section, format string) (n int) {
		text, err := raw.Info(ctx, section).Result()
		mustBe(t, err, nil)
		for line := range strings.Lines(text) {
			_, _ = fmt.Sscanf(line, format, &n)
		}
		return n
	}
	sent := func() int { return count("stats", "total_net_output_bytes:%d") }
	read := func() int { return count("commandstats", "cmdstat_hgetall:calls=%d") }
	large := bytes.Repeat([]byte("x"), 1<<20-1)
	req := redisidem.Request{Method: "POST", Path: "/", Params: large}
	other := redisidem.Request{Method: "POST", Path: "/other"}
	sc := e.service(func(c *redisidem.Config) { c.Timeout = 10 * time.Second }).Scope("a")
	key, err := sc.Do(ctx, "k", req, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Advance("two").WithState(large), nil
	})
	mustBe(t, err, nil)
	lease, err := sc.Lock(ctx, "k")
	mustBe(t, err, nil)
	const looks = 20
	asks := func(what string, ask func() error, want error) {
		t.Helper()
		before, readBefore := sent(), read()
		for range looks {
			mustBe(t, ask(), want)
		}
		if n := sent() - before; n > 64<<10 {
			t.Errorf("%s: the server sends %d bytes for %d of them", what, n, looks)
		}
		if n := read() - readBefore; n > 0 {
			t.Errorf("%s: the whole record is read %d times for %d of them, want 0", what, n, looks)
		}
	}
	do := func(sc *redisidem.Scope, req redisidem.Request) func() error {
		return func() error {
			_, err := sc.Do(ctx, "k", req, never(t))
			return err
		}
	}
	asks("a locked key", do(sc, req), redisidem.ErrLocked)
	asks("a wait", do(sc.Wait(50*time.Millisecond), req), redisidem.ErrLocked)
	asks("a lease on a locked key", func() error { _, err := sc.Lock(ctx, "k"); return err }, redisidem.ErrLocked)
	asks("a view of a locked key", func() error { _, err := sc.WorkStage(ctx, key, never(t)); return err }, redisidem.ErrLocked)
	asks("another request", do(sc, other), redisidem.ErrFingerprintMismatch)
	asks("another request without work", func() error {
		_, err := sc.InitializeRequest(ctx, "k", other)
		return err
	}, redisidem.ErrFingerprintMismatch)
	asks("a flow", func() error {
		_, err := sc.DoFlow(ctx, "k", req, mustFlow(t, cart()))
		return err
	}, redisidem.ErrUnknownRecoveryPoint)

	_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, 1)))
	mustBe(t, err, nil)
	replayed := func(key *redisidem.Key, err error) error {
		if err == nil && (!key.Replayed() || string(key.Response.Body) != "1" || !bytes.Equal(key.Params, large) || len(key.Journal) != 2 ||
			key.Method != http.MethodPost || key.CreatedAt.IsZero() || key.UpdatedAt.IsZero()) {
			t.Errorf("the replay is of %s %s with %d bytes of params and %+v", key.Method, key.Path, len(key.Params), key.Journal)
		}
		return err
	}
	asks("a replay", func() error { return replayed(sc.Do(ctx, "k", req, never(t))) }, nil)
	asks("a replay without work", func() error { return replayed(sc.InitializeRequest(ctx, "k", req)) }, nil)
	asks("a flow's replay", func() error { return replayed(sc.DoFlow(ctx, "k", req, mustFlow(t, cart()))) }, nil)

	// The parts of a request that its own fingerprint does not cover are those of the record.
	named := redisidem.Request{Params: []byte("first"), Fingerprint: []byte("same")}
	_, err = sc.Do(ctx, "named", named, finish("done"))
	mustBe(t, err, nil)
	named.Params = []byte("second")
	key, err = sc.Do(ctx, "named", named, never(t))
	mustBe(t, err, nil)
	if string(key.Params) != "first" {
		t.Errorf("the replay's params are %q", key.Params)
	}
}

// TestKeysHaveTheLeaseOfAWorkerOnly reads a key while a worker has its lease, and after the worker
// has lost it without giving it back.
func TestKeysHaveTheLeaseOfAWorkerOnly(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service(func(c *redisidem.Config) { c.Lease, c.Owner = time.Hour, "worker-1" })
		sc, in := svc.Scope("a"), redisidem.NewInspector(svc)
		lease := lockedKey(t, sc, "k")
		t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
		granted := lease.Key().LockedAt
		read := func() map[string]*redisidem.Key {
			retrieved, err := sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			info, err := in.Get(ctx, "a", "k")
			mustBe(t, err, nil)
			if !info.LockedAt.Equal(granted) || info.LockedBy != "worker-1" {
				t.Errorf("a %s key has the lease of %q since %v", info.State, info.LockedBy, info.LockedAt)
			}
			return map[string]*redisidem.Key{"Retrieve": retrieved, "Inspector.Get": info.Key}
		}
		for name, key := range read() {
			if !key.LockedAt.Equal(granted) || key.LockedBy != "worker-1" {
				t.Errorf("%s: while a worker has the lease, it is of %q since %v", name, key.LockedBy, key.LockedAt)
			}
		}
		_, lock := e.place(lease.Key())
		mustBe(t, e.client().Del(ctx, lock).Err(), nil)
		all := read()
		var err error
		all["InitializeRequest"], err = sc.InitializeRequest(ctx, "k", request)
		mustBe(t, err, nil)
		for name, key := range all {
			if !key.LockedAt.IsZero() || key.LockedBy != "" {
				t.Errorf("%s: after the lease was lost, it is of %q since %v", name, key.LockedBy, key.LockedAt)
			}
		}
	})
}
