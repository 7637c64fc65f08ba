package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// outbox is the name of the stream, one in each shard, that events are put into by the commit that makes them true.
const outbox = "outbox"

// relay takes events out of the outbox and sends e-mails. Relays of all replicas form one consumer group: each event goes to one of
// them, and to another one when that dies before it has acknowledged. An e-mail can therefore be asked for twice, and is sent once,
// since its event has a name.
type relay struct {
	redis *redis.Client
	shop  *shop
	name  string // of this consumer
	space string // namespace of the keys
	log   *slog.Logger
}

const (
	relayGroup = "mailer"
	relayPause = 200 * time.Millisecond
	// abandoned is how long an event may lie with a consumer before another one takes it.
	abandoned = 5 * time.Second
)

// run relays until ctx ends.
func (r *relay) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.round(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("relay", "error", err)
		}
		select {
		case <-time.After(relayPause):
		case <-ctx.Done():
		}
	}
}

// round looks into all outboxes once. On a cluster this would go through each master.
func (r *relay) round(ctx context.Context) error {
	streams := r.redis.Scan(ctx, 0, r.space+":{*}:x:"+outbox, 1000).Iterator()
	for streams.Next(ctx) {
		if err := r.empty(ctx, streams.Val()); err != nil {
			return err
		}
	}
	return streams.Err()
}

// empty relays what is in one outbox.
func (r *relay) empty(ctx context.Context, stream string) error {
	err := r.redis.XGroupCreate(ctx, stream, relayGroup, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return err
	}
	left, _, err := r.redis.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: stream, Group: relayGroup, Consumer: r.name, MinIdle: abandoned, Start: "0", Count: 100,
	}).Result()
	if err != nil {
		return err
	}
	fresh, err := r.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: relayGroup, Consumer: r.name, Streams: []string{stream, ">"}, Count: 100, Block: -1,
	}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, s := range fresh {
		left = append(left, s.Messages...)
	}
	for _, m := range left {
		text := fmt.Sprintf("%v: %v of %v", m.Values["event"], m.Values["order"], m.Values["cart"])
		if err := r.shop.sendMail(ctx, stream+" "+m.ID, fmt.Sprint(m.Values["cart"]), text); err != nil {
			return err
		}
		if err := r.redis.XAck(ctx, stream, relayGroup, m.ID).Err(); err != nil {
			return err
		}
	}
	return nil
}
