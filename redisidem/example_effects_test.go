package redisidem_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// Effects are written in the same atomic step as the outcome, exactly once: here a counter, and an
// event in an outbox.
func ExampleOutcome_WithEffects() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	var orders, outbox string
	for range 2 { // the request, and its retry
		key, err := svc.Scope("tenant-42").Do(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/orders"},
			func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				orders, outbox = st.ShardKey("orders"), st.ShardKey("outbox")
				return redisidem.Finish(redisidem.JSON(201, "order 1")).WithEffects(
					effect.IncrBy(orders, 1),
					effect.XAdd(outbox, "event", "ordered").MaxLen(10_000),
				), nil
			})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, key.Replayed())
	}
	fmt.Println(client.Get(ctx, orders).Val(), "order,", client.XLen(ctx, outbox).Val(), "event")
	// Output:
	// 201 false
	// 201 true
	// 1 order, 1 event
}
