package workload

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Counters returns the counters of commits that the effects have incremented, by the values of
// their keys.
func Counters(ctx context.Context, t testing.TB, client *redis.Client) map[string]int {
	t.Helper()
	counted := make(map[string]int)
	it := client.Scan(ctx, 0, "*:"+Counter+"*", 1000).Iterator()
	for it.Next(ctx) {
		n, err := client.Get(ctx, it.Val()).Int()
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(it.Val(), Counter)
		counted[value] = n
	}
	if err := it.Err(); err != nil {
		t.Fatalf("not all counters were looked at: %v", err)
	}
	return counted
}
