package contender

import (
	"context"
	"errors"
	"io"

	"github.com/redis/go-redis/v9"
)

var (
	floorPlain = Kind{
		Name: "floor", Title: "two bare commands",
		About: "SET NX for the key and SET for the response: the least that touches Redis at all. It replays nothing, and a " +
			"crash leaves the key taken.",
		Open: func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
			client, err := dial.Client(ctx)
			if err != nil {
				return nil, err
			}
			return &floor{store: client, prefix: prefix, closer: client}, nil
		},
	}
	floorAuto = Kind{
		Name: "floor-auto", Title: "two bare commands, auto-pipelined",
		About: "The same two commands over go-redis's auto-pipeliner.",
		Open: func(_ context.Context, dial Dial, prefix string) (Contender, error) {
			client, err := dial.SharedClient()
			if err != nil {
				return nil, err
			}
			pipe, err := autoPipeline(client)
			if err != nil {
				return nil, errors.Join(err, client.Close())
			}
			return &floor{store: pipe, prefix: prefix, closer: client}, nil
		},
	}
)

type floor struct {
	store interface {
		SetArgs(ctx context.Context, key string, value any, a redis.SetArgs) *redis.StatusCmd
	}
	prefix string
	closer io.Closer
}

func (g *floor) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	name := g.prefix + ":" + r.Key
	err = g.store.SetArgs(ctx, name, "taken", redis.SetArgs{Mode: "NX", TTL: lease}).Err()
	if errors.Is(err, redis.Nil) {
		return nil, false, ErrInFlight
	}
	if err != nil {
		return nil, false, err
	}
	body, err := work(ctx)
	if err != nil {
		return nil, false, err
	}
	return body, false, g.store.SetArgs(ctx, name, body, redis.SetArgs{TTL: retention}).Err()
}

func (g *floor) Close() error { return g.closer.Close() }
