//go:build unix

package redistest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := rediscase.Cluster(t)
	ctx := context.Background()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	for i := range 100 {
		must(t, rdb.Set(ctx, fmt.Sprint("k", i), i, 0).Err())
	}

	const slot = 42 // one of the first node's
	owner, replicas, err := c.Owner(slot)
	must(t, err)
	if owner != c.Nodes[0] || len(replicas) != 1 || replicas[0] != c.Nodes[3] {
		t.Fatalf("the slot belongs to %s with %d replicas", owner.Addr(), len(replicas))
	}
	must(t, c.Failover(slot))
	owner, replicas, err = c.Owner(slot)
	must(t, err)
	if owner != c.Nodes[3] || len(replicas) != 1 || replicas[0] != c.Nodes[0] {
		t.Fatalf("after the failover the slot belongs to %s with %d replicas", owner.Addr(), len(replicas))
	}

	owner.Kill()
	eventually(t, "the replica has taken over from a killed master", func() bool {
		owner, _, err := c.Owner(slot)
		return err == nil && owner == c.Nodes[0]
	})
	must(t, owner.Restart())
	must(t, c.AwaitReady())

	must(t, c.Nodes[0].Pause())
	eventually(t, "the replica has taken over from a paused master", func() bool {
		owner, _, err := c.Owner(slot)
		return err == nil && owner == c.Nodes[3]
	})
	must(t, c.Nodes[0].Resume())
	must(t, c.AwaitReady())
	if _, _, err := c.Owner(1 << 14); err == nil {
		t.Error("a slot that does not exist has an owner")
	}
}
