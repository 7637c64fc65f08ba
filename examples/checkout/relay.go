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

// outbox is the name of the stream, one in each shard, to which a commit adds its events.
const outbox = "outbox"

// relay takes events out of the outboxes and sends e-mails. Relays of all replicas form one
// consumer group: each event goes to one of them, and to another one if that dies before it has
// acknowledged. An e-mail can therefore be requested twice. It is sent once, because its event has
// a name.
type relay struct {
	redis   *redis.Client
	shop    *shop
	name    string // of this consumer: the same after a restart, so that no consumers are left behind
	streams []string
	log     *slog.Logger
}

const (
	relayGroup = "mailer"
	relayPause = time.Second
	// abandoned is how long an event may stay with a consumer before another one takes it.
	abandoned = 5 * time.Second
)

// newRelay makes a relay for the outboxes of a namespace.
func newRelay(client *redis.Client, s *shop, name, namespace string) *relay {
	return &relay{redis: client, shop: s, name: name, streams: outboxes(namespace), log: slog.Default()}
}

// outboxes are the names that Stage.ShardKey gives to the outbox, one for each of the 1024 shards.
// Finding existing outboxes with SCAN would cost repeated passes over all keys of the server.
func outboxes(namespace string) []string {
	names := make([]string, 1024)
	for shard := range names {
		names[shard] = fmt.Sprintf("%s:{%03x}:x:%s", namespace, shard, outbox)
	}
	return names
}

// run relays until ctx ends.
func (r *relay) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.attend(ctx)
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("relay", "error", err)
		select {
		case <-time.After(relayPause):
		case <-ctx.Done():
		}
	}
}

// attend relays until an error. It then begins again, because Redis may have lost the group.
func (r *relay) attend(ctx context.Context) error {
	if err := r.join(ctx); err != nil {
		return err
	}
	for next := time.Now(); ; {
		if !time.Now().Before(next) {
			if err := r.inherit(ctx); err != nil {
				return err
			}
			next = time.Now().Add(abandoned)
		}
		if err := r.receive(ctx, time.Second); err != nil {
			return err
		}
	}
}

// join makes the group in each outbox. It also makes outboxes without any event, some hundred
// kilobytes in all.
func (r *relay) join(ctx context.Context) error {
	// A pipeline's error is that of its first command that failed, and most of these fail because
	// the group exists.
	commands, _ := r.each(ctx, func(p redis.Pipeliner, stream string) { p.XGroupCreateMkStream(ctx, stream, relayGroup, "0") })
	for _, c := range commands {
		if err := c.Err(); err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return err
		}
	}
	return nil
}

// inherit takes over the events that a consumer has taken and not acknowledged in time.
func (r *relay) inherit(ctx context.Context) error {
	commands, err := r.each(ctx, func(p redis.Pipeliner, stream string) {
		p.XAutoClaim(ctx, &redis.XAutoClaimArgs{
			Stream: stream, Group: relayGroup, Consumer: r.name, MinIdle: abandoned, Start: "0", Count: 100,
		})
	})
	if err != nil {
		return err
	}
	for i, c := range commands {
		if c, ok := c.(*redis.XAutoClaimCmd); ok {
			left, _ := c.Val()
			if err := r.deliver(ctx, r.streams[i], left); err != nil {
				return err
			}
		}
	}
	return nil
}

// each sends one command for each outbox.
func (r *relay) each(ctx context.Context, command func(p redis.Pipeliner, stream string)) ([]redis.Cmder, error) {
	return r.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, stream := range r.streams {
			command(p, stream)
		}
		return nil
	})
}

// receive relays new events, and waits for the next if there is no new one.
func (r *relay) receive(ctx context.Context, patience time.Duration) error {
	fresh, err := r.take(ctx, patience)
	if err != nil {
		return err
	}
	for _, s := range fresh {
		if err := r.deliver(ctx, s.Stream, s.Messages); err != nil {
			return err
		}
	}
	return nil
}

// take gets events that no consumer of the group has had. On a cluster there would be one such call
// for each of its slots.
func (r *relay) take(ctx context.Context, patience time.Duration) ([]redis.XStream, error) {
	from := make([]string, 0, 2*len(r.streams))
	from = append(from, r.streams...)
	for range r.streams {
		from = append(from, ">")
	}
	fresh, err := r.redis.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: relayGroup, Consumer: r.name, Streams: from, Count: 100, Block: patience,
	}).Result()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return fresh, err
}

// deliver sends an e-mail for each event, and only then acknowledges it.
func (r *relay) deliver(ctx context.Context, stream string, events []redis.XMessage) error {
	for _, e := range events {
		cart, order := fmt.Sprint(e.Values["cart"]), fmt.Sprint(e.Values["order"])
		// The event's name is not its ID. If Redis loses the key and the order is found again,
		// there is a second event with the same name.
		if err := r.shop.sendMail(ctx, "order.placed "+order, cart, "Thank you for your order "+order+"."); err != nil {
			return err
		}
		if err := r.redis.XAck(ctx, stream, relayGroup, e.ID).Err(); err != nil {
			return err
		}
	}
	return nil
}
