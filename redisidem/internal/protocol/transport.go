package protocol

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// transport carries commands to the server that has a key. It sends them in order over one connection, and returns
// when each has its result, or when ctx ends. A nil error means that every result may be read; the error of the first
// command that failed is returned otherwise, since what follows it may rest on it.
type transport interface {
	send(ctx context.Context, cmds []redis.Cmder) error
}

// plain sends each caller's commands by themselves, a single one as a pipeline, too: go-redis has
// connections of their own for pipelines, as a claim is one. The commit behind it would otherwise
// have to wait for a connection that is yet to be made.
type plain struct{ client redis.UniversalClient }

func (p plain) send(ctx context.Context, cmds []redis.Cmder) error {
	pipe := p.client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd) // only queues
	}
	_, err := pipe.Exec(ctx)
	if first := firstError(cmds); first != nil {
		return first
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err // of a connection that could not be made, which the commands need not have
}

// firstError returns the first error among the commands' that is more than an absent value.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}
