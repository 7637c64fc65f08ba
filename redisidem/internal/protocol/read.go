package protocol

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Record reads a record as field, value, ..., in no particular order; empty if it does not exist.
// ctx must have a deadline.
func (c *Client) Record(ctx context.Context, record string) (pairs []string, err error) {
	err = Repeat(ctx, func(ctx context.Context) error {
		// The scripts' replies are lists, so a list needs no second decoder.
		cmd := redis.NewMapStringStringCmd(ctx, "hgetall", record)
		if err := c.sendOne(ctx, false, record, cmd); err != nil {
			return err
		}
		pairs = pairs[:0]
		for field, value := range cmd.Val() {
			pairs = append(pairs, field, value)
		}
		return nil
	})
	return pairs, wrongType(err)
}

// Members reads a sorted set. ctx must have a deadline.
func (c *Client) Members(ctx context.Context, key string) (members []string, err error) {
	err = Repeat(ctx, func(ctx context.Context) error {
		cmd := redis.NewStringSliceCmd(ctx, "zrange", key, 0, -1)
		err := c.sendOne(ctx, false, key, cmd)
		members = cmd.Val()
		return err
	})
	return members, wrongType(err)
}
