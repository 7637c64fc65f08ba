package redisidem_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// TestProbeFindsAServerThatRefusesWrites changes a server so that it still answers reads.
func TestProbeFindsAServerThatRefusesWrites(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	client := server.Client()
	t.Cleanup(func() { _ = client.Close() })
	svc, err := redisidem.New(client, &redisidem.Config{Timeout: time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	// A single answer may come too late on a busy machine.
	until := func(done func(error) bool) (err error) {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if err = svc.Probe(ctx); done(err) {
				return err
			}
		}
		t.Fatalf("the last probe returns %v", err)
		return err
	}
	accepted := func(err error) bool { return err == nil }
	set := func(name, value string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			mustBe(t, admin.ConfigSet(ctx, name, value).Err(), nil)
		}
	}
	for _, c := range []struct {
		word      string
		make, end func(t *testing.T)
	}{
		{"OOM", set("maxmemory", "1"), set("maxmemory", "0")},
		{"NOREPLICAS", set("min-replicas-to-write", "1"), set("min-replicas-to-write", "0")},
		{
			"READONLY",
			func(t *testing.T) { mustBe(t, admin.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err(), nil) },
			func(t *testing.T) { mustBe(t, admin.Do(ctx, "REPLICAOF", "NO", "ONE").Err(), nil) },
		},
		{"MISCONF", func(t *testing.T) { failSaves(t, server.Dir(), admin) }, set("stop-writes-on-bgsave-error", "no")},
	} {
		_ = until(accepted)
		c.make(t)
		mustBe(t, admin.Get(ctx, "absent").Err(), redis.Nil)
		err := until(func(err error) bool { return err != nil && strings.Contains(err.Error(), c.word) })
		mustBe(t, err, redisidem.ErrUnavailable)
		c.end(t)
		_ = until(accepted)
	}
	server.Stop()
	mustBe(t, svc.Probe(ctx), redisidem.ErrUnavailable)
}

// failSaves puts a folder in the place of the file that a server saves to, so that it refuses
// writes.
func failSaves(t *testing.T, dir string, admin *redis.Client) {
	t.Helper()
	mustBe(t, os.Mkdir(filepath.Join(dir, "dump.rdb"), 0o700), nil)
	mustBe(t, admin.ConfigSet(ctx, "save", "3600 1").Err(), nil)
	mustBe(t, admin.Do(ctx, "BGSAVE").Err(), nil)
	for range 500 {
		if strings.Contains(admin.Info(ctx, "persistence").Val(), "rdb_last_bgsave_status:err") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the save does not fail")
}

// TestProbeLeavesNothingBehind looks at the server after a lease, and at the observer.
func TestProbeLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(b *bubble) {
		seen := &recorder{}
		svc := b.service(redisidem.Config{Lease: 10 * time.Second, Observer: seen})
		mustBe(b.T, svc.Probe(ctx), nil)
		if n := len(b.server.Keys()); n != 1 {
			b.Errorf("a probe writes %d keys", n)
		}
		time.Sleep(11 * time.Second)
		if keys := b.server.Keys(); len(keys) != 0 {
			b.Errorf("a probe leaves %q", keys)
		}
		if kinds := seen.kinds(); len(kinds) != 0 {
			b.Errorf("an observer received %v", kinds)
		}
		mustBe(b.T, svc.Close(ctx), nil)
		mustBe(b.T, svc.Probe(ctx), redisidem.ErrClosed)
	})
}
