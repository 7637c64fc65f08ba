package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

const (
	stream = "example:orders"
	group  = "shipping"
	lease  = time.Second // short, so that the example does not last long
)

// work handles the messages of the queue until it is empty.
func work(ctx context.Context, out io.Writer, url string) error {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	opts.ContextTimeoutEnabled = true
	rdb := redis.NewClient(opts)
	defer func() { _ = rdb.Close() }()
	svc, err := redisidem.New(rdb, &redisidem.Config{Lease: lease})
	if err != nil {
		return err
	}
	defer func() { _ = svc.Close(ctx) }()
	shipping, err := consumer.New(svc, "orders/shipping", &consumer.Config{ExtendEvery: lease / 3})
	if err != nil {
		return err
	}
	for {
		delivery, err := receive(ctx, rdb)
		if err != nil || delivery == nil {
			return err
		}
		id, _ := delivery.Values["id"].(string)
		item, _ := delivery.Values["item"].(string)
		m := consumer.Message{ID: id, Body: []byte(item), Extend: func(ctx context.Context) error {
			return rdb.XClaimJustID(ctx, &redis.XClaimArgs{Stream: stream, Group: group, Consumer: "worker", Messages: []string{delivery.ID}}).Err()
		}}
		key, err := shipping.Handle(ctx, m, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			fmt.Fprintf(out, "%s: ship, attempt %d\n", item, st.Attempt())
			if item == os.Getenv("DIES_AT") {
				die() // it was shipped, and Redis does not know it
			}
			return redisidem.Finish(redisidem.Response{Body: []byte("parcel with " + item)}), nil
		})
		if err != nil {
			fmt.Fprintln(out, item, "stays in the queue, and is delivered again:", err)
			continue
		}
		fmt.Fprintf(out, "%s: %s, replayed: %t\n", item, key.Response.Body, key.Replayed())
		if err := rdb.XAck(ctx, stream, group, delivery.ID).Err(); err != nil {
			return err
		}
	}
}

// receive returns the next message, or nil if the queue is empty. A message that a worker has had
// for two leases without extending that is delivered again.
func receive(ctx context.Context, rdb *redis.Client) (*redis.XMessage, error) {
	for {
		again, _, err := rdb.XAutoClaim(ctx, &redis.XAutoClaimArgs{
			Stream: stream, Group: group, Consumer: "worker", MinIdle: 2 * lease, Start: "0", Count: 1,
		}).Result()
		if err != nil {
			return nil, err
		}
		if len(again) > 0 {
			return &again[0], nil
		}
		fresh, err := rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: group, Consumer: "worker", Streams: []string{stream, ">"}, Count: 1, Block: lease / 10,
		}).Result()
		switch {
		case err == nil:
			return &fresh[0].Messages[0], nil
		case !errors.Is(err, redis.Nil):
			return nil, err
		}
		pending, err := rdb.XPending(ctx, stream, group).Result()
		if err != nil || pending.Count == 0 {
			return nil, err
		}
	}
}

// die ends the process as kill -9 does.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}
