//go:build unix

package topology

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

func clusterURL(c *redistest.Cluster) string {
	addrs := c.Addrs()
	return "redis+cluster://" + addrs[0] + "?" + url.Values{"addr": addrs[1:]}.Encode()
}

// TestClusterFailovers loses masters of a cluster.
func TestClusterFailovers(t *testing.T) {
	many := count(t, *failovers, 2, 50, 50)
	r := dice(t)
	cluster := rediscase.Cluster(t)
	l := newLoad(t, clusterURL(cluster), 1)
	l.begin()
	var took []time.Duration
	for i := range many {
		must(t, cluster.AwaitReady())
		l.recovered()
		slot := r.IntN(1 << 14)
		old, _, err := cluster.Owner(slot)
		must(t, err)
		struck := time.Now()
		if i%2 == 0 {
			old.Kill()
		} else {
			must(t, old.Pause())
		}
		until(t, "there is another master", func() bool {
			owner, _, err := cluster.Owner(slot)
			return err == nil && owner != old
		})
		if i%2 == 0 {
			must(t, old.Restart())
		} else {
			must(t, old.Resume())
		}
		l.recovered()
		took = append(took, time.Since(struck))
	}
	l.end()
	must(t, cluster.AwaitReady())
	l.audit()
	rung.Figure(t, "R9", "%d cluster failovers, half kill -9, half SIGSTOP, durability 1: %v; over after: %s", many, l, spread(took))
}

// TestClusterMigrations moves slots from one master to another and back while keys in them are worked on.
func TestClusterMigrations(t *testing.T) {
	many := count(t, *migrations, 20, 1000, 1000)
	r := dice(t)
	cluster := rediscase.Cluster(t)
	l := newLoad(t, clusterURL(cluster), 0)
	shard := fmt.Sprintf("%03x", r.IntN(1<<10))
	l.name = func() string { return inShard(shard, func() string { return fmt.Sprint("order-", l.next.Add(1)) }) }
	slot := slotOf(t, cluster, shard)
	l.begin()
	during := 0
	var held []time.Duration
	for range many {
		from, _, err := cluster.Owner(slot)
		must(t, err)
		to := cluster.Nodes[r.IntN(3)]
		for to == from {
			to = cluster.Nodes[r.IntN(3)]
		}
		began := time.Now()
		before := l.count()
		migrate(t, cluster, slot, from, to, time.Duration(r.Int64N(int64(100*time.Millisecond))))
		during += l.count() - before
		held = append(held, time.Since(began))
		l.recovered()
	}
	l.end()
	l.audit()
	rung.Figure(t, "R9", "%d migrations of the one slot that is worked on: %v; keys acknowledged while a slot was on its way: %d; a slot was on its way: %s",
		many, l, during, spread(held))
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits
}

// inShard draws names until one is in the shard, by the rule in docs/design.md.
func inShard(shard string, draw func() string) string {
	part := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...) }
	for {
		name := draw()
		sum := sha256.Sum256(part(part([]byte("redisidem/key/1"), "load"), name))
		if fmt.Sprintf("%03x", binary.BigEndian.Uint16(sum[24:])>>6) == shard {
			return name
		}
	}
}

// slotOf returns the cluster slot of a shard.
func slotOf(t *testing.T, c *redistest.Cluster, shard string) int {
	t.Helper()
	client := c.Nodes[0].Client()
	defer func() { _ = client.Close() }()
	slot, err := client.ClusterKeySlot(context.Background(), redisidem.DefaultNamespace+":{"+shard+"}:x").Result()
	must(t, err)
	return int(slot)
}

// migrate moves a slot as redis-cli does, and holds it between the two for a while.
func migrate(t *testing.T, c *redistest.Cluster, slot int, from, to *redistest.Server, hold time.Duration) {
	t.Helper()
	ctx := context.Background()
	clients := make(map[*redistest.Server]*redis.Client)
	defer func() {
		for _, client := range clients {
			_ = client.Close()
		}
	}()
	for _, node := range c.Nodes {
		clients[node] = node.Client()
	}
	ask := func(node *redistest.Server, args ...any) string {
		text, err := clients[node].Do(ctx, args...).Text()
		must(t, err)
		return text
	}
	ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(from, "CLUSTER", "MYID"))
	ask(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(to, "CLUSTER", "MYID"))
	host, port, _ := strings.Cut(to.Addr(), ":")
	for moved := false; ; moved = true {
		keys, err := clients[from].ClusterGetKeysInSlot(ctx, slot, 50).Result()
		must(t, err)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, key := range keys {
			args = append(args, key)
		}
		must(t, clients[from].Do(ctx, args...).Err())
		if !moved {
			time.Sleep(hold) // some keys are here and some are there
		}
	}
	id := ask(to, "CLUSTER", "MYID")
	for _, node := range append([]*redistest.Server{to, from}, c.Nodes[:3]...) {
		ask(node, "CLUSTER", "SETSLOT", slot, "NODE", id)
	}
}
