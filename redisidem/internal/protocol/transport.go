package protocol

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// transport carries commands to the server that has their keys.
type transport interface {
	// send returns when the command has its result, or when ctx ends. A nil error means that the
	// result may be read.
	send(ctx context.Context, cmd redis.Cmder) error
	// sendTogether is send for several commands, in order over one connection. It returns the error
	// of the first command that failed, since later commands may depend on it.
	sendTogether(ctx context.Context, cmds []redis.Cmder) error
}

// plain sends each caller's commands separately.
type plain struct{ client redis.UniversalClient }

func (p plain) send(ctx context.Context, cmd redis.Cmder) error {
	_ = p.client.Process(ctx, cmd) // the command has the error
	return errorOf(cmd)
}

func (p plain) sendTogether(ctx context.Context, cmds []redis.Cmder) error {
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
	return err // the connection failed, and go-redis may not set this on the commands
}

// errorOf returns the command's error, except for an absent value.
func errorOf(cmd redis.Cmder) error {
	if err := cmd.Err(); !errors.Is(err, redis.Nil) {
		return err
	}
	return nil
}

// firstError returns the first error of the commands, except for absent values.
func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := errorOf(cmd); err != nil {
			return err
		}
	}
	return nil
}

// AnyMaster stands for the address of the only master, or of one that is unknown.
const AnyMaster = ""

// Master returns the address of the server that has a Redis key, or [AnyMaster].
func (c *Client) Master(ctx context.Context, key string) string {
	if cluster, ok := c.redis.(*redis.ClusterClient); ok {
		bounded, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		if node, err := cluster.MasterForKey(bounded, key); err == nil {
			return node.Options().Addr
		}
	}
	return AnyMaster
}
