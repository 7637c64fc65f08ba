package limit_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

func TestLimitRunsWholeLifecycles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := rediscase.Server(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	template, err := limit.Capture(ctx, client, "limit")
	if err != nil {
		t.Fatal(err)
	}
	before := client.DBSize(ctx).Val()
	const count = 10 * limit.Depth
	n, _, err := limit.Lifecycles(ctx, server.Addr(), template, time.Minute, count)
	if err != nil || n != count {
		t.Fatal(n, err)
	}
	if got := client.DBSize(ctx).Val() - before; got != count { // no lock is left, no record is missing
		t.Errorf("%d keys for %d lifecycles", got, count)
	}
	raw := limit.Raw(client, template, "raw")
	for i := range uint64(10) {
		if _, err := raw(ctx, 1, i); err != nil {
			t.Fatal(err)
		}
	}
	if got := client.DBSize(ctx).Val() - before; got != count+10 {
		t.Errorf("%d keys for %d lifecycles", got, count+10)
	}
	if n, _, err := limit.Sets(ctx, server.Addr(), time.Minute, count); err != nil || n != count {
		t.Error(n, err)
	}
}
