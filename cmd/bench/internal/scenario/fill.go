package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// fill stores records of finished requests on the server. They are removed when the server is
// emptied.
func fill(ctx context.Context, server *target.Server, records int64) error {
	if !server.Private || !server.Measured {
		return errors.New("only a private redis-server is filled with records")
	}
	addr, err := server.Addr()
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }() // nothing is in flight
	template, err := limit.Capture(ctx, client, "filled")
	if err != nil {
		return err
	}
	_, err = limit.Lifecycles(ctx, addr, template, time.Hour, records)
	return err
}
