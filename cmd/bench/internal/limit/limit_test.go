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
	run, err := limit.Lifecycles(ctx, server.Addr(), template, time.Minute, count)
	if err != nil || run.Count != count {
		t.Fatal(run, err)
	}
	if got := client.DBSize(ctx).Val() - before; got != count { // no lock remains, and each record exists
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
	sets, err := limit.Sets(ctx, server.Addr(), time.Minute, count)
	if err != nil || sets.Count != count {
		t.Error(sets, err)
	}
	for _, r := range []limit.Run{run, sets} {
		if err := r.Remove(ctx, server.Addr(), template); err != nil {
			t.Error(err)
		}
	}
	if got := client.DBSize(ctx).Val() - before; got != 10 {
		t.Errorf("%d keys are left", got-10)
	}
}
