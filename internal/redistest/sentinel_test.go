//go:build unix

package redistest_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// mustChange waits until the group has a master other than old, and returns it.
func mustChange(t *testing.T, g *redistest.Sentinel, old *redistest.Server) (master *redistest.Server) {
	t.Helper()
	eventually(t, "the sentinels have made another server the master", func() bool {
		var err error
		master, err = g.Master()
		return err == nil && master != old
	})
	return master
}

func TestSentinelReplacesKilledMaster(t *testing.T) {
	t.Parallel()
	g := rediscase.Sentinel(t)
	ctx := context.Background()
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: g.MasterName, SentinelAddrs: g.Addrs(), DisableIdentity: true,
	})
	defer func() { _ = rdb.Close() }()
	must(t, rdb.Set(ctx, "k", 1, 0).Err())

	master, err := g.Master()
	must(t, err)
	if master != g.Data[0] {
		t.Fatalf("the master is %s", master.Addr())
	}
	master.Kill()
	mustChange(t, g, master)
	eventually(t, "the client writes to the new master", func() bool { return rdb.Set(ctx, "k", 2, 0).Err() == nil })
}

func TestSentinelReplacesPausedMaster(t *testing.T) {
	t.Parallel()
	g := rediscase.Sentinel(t)
	must(t, g.Data[0].Pause())
	mustChange(t, g, g.Data[0])
	must(t, g.AwaitReplaced(g.Data[0]))
	must(t, g.Data[0].Resume())
	must(t, g.AwaitReady())
}

func TestSentinelFailsOverOnDemand(t *testing.T) {
	t.Parallel()
	g := rediscase.Sentinel(t)
	must(t, g.Failover())
	if master, err := g.Master(); err != nil || master == g.Data[0] {
		t.Fatalf("after the failover the master is the same, or %v", err)
	}
	must(t, g.AwaitReady())
	g.Sentinels[0].Kill() // any other sentinel will do
	if _, err := g.Master(); err != nil {
		t.Error(err)
	}
}
