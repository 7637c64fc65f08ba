package protocol

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
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
		got, err := c.Existing(context.Background(), indexes)
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

func TestDueIndexIsSplitIntoShardAndFlow(t *testing.T) {
	t.Parallel()
	prefix := ShardPrefix("n:{s}", 0x3ff)
	if p, flow := SplitDueIndex(DueIndex(prefix, "cart.v-1_x")); p != prefix || flow != "cart.v-1_x" {
		t.Errorf("the index is of the shard %q and the flow %q", p, flow)
	}
}
