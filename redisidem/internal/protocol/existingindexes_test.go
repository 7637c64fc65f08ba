package protocol

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	resp "github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
)

// TestExistingFindsTheIndexes asks for many indexes of which none, one, some and all exist.
func TestExistingFindsTheIndexes(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	c, err := New(&Options{Redis: client, Namespace: "ns", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var indexes []string
	for _, flow := range []string{"a", "b", "c", "d", "e"} {
		for shard := range Shards {
			indexes = append(indexes, DueIndex(ShardPrefix("ns", shard), flow))
		}
	}
	for _, every := range []int{len(indexes) + 1, len(indexes), 97, 2, 1} {
		server.FlushAll()
		var want []string
		for i, index := range indexes {
			if (i+1)%every == 0 {
				want = append(want, index)
				if _, err := server.ZAdd(index, 1, "m"); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := server.CommandCount()
		got, err := c.Existing(context.Background(), indexes, ScanAsks)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d of %d indexes exist, and %d were found: %v", len(want), len(indexes), len(got), err)
		}
		if n := server.CommandCount() - before; len(want) <= 1 && n > 8+8*5*len(want) { // with those of a new connection
			t.Errorf("%d commands found %d indexes", n, len(want))
		}
	}
}

// TestExistingIsAboutAllButTheRefused has a server that refuses one shard, as a cluster does for
// slots without a master, and one key of another shard.
func TestExistingIsAboutAllButTheRefused(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	c, err := New(&Options{Redis: client, Namespace: "ns", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var groups [][]string
	var want []string
	for shard := range 40 {
		prefix := ShardPrefix("ns", shard)
		group := []string{DueIndex(prefix, "a"), DueIndex(prefix, "b")}
		groups = append(groups, group)
		if _, err := server.ZAdd(group[shard%2], 1, "m"); err != nil {
			t.Fatal(err)
		}
		if shard != 7 && shard != 9 {
			want = append(want, group[shard%2])
		}
	}
	server.Server().SetPreHook(func(peer *resp.Peer, cmd string, args ...string) bool {
		refused := cmd == "EXISTS" && (args[0] == groups[7][0] || slices.Contains(args, groups[9][1]))
		if refused {
			peer.WriteError("CLUSTERDOWN Hash slot not served")
		}
		return refused
	})
	got, err := c.existingOn(t.Context(), groups, mostPiped)
	slices.Sort(got)
	slices.Sort(want)
	if !redis.IsClusterDownError(err) || !slices.Equal(got, want) {
		t.Errorf("%d indexes were found, %d exist where the server answers: %v", len(got), len(want), err)
	}
}

func TestDueIndexIsSplitIntoShardAndFlow(t *testing.T) {
	t.Parallel()
	prefix := ShardPrefix("n:{s}", 0x3ff)
	if p, flow := SplitDueIndex(DueIndex(prefix, "cart.v-1_x")); p != prefix || flow != "cart.v-1_x" {
		t.Errorf("the index is of the shard %q and the flow %q", p, flow)
	}
}
