package protocol

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Record reads a record as field, value, ..., in no particular order; empty if it does not exist.
// locked is whether a worker has its lock. ctx must have a deadline.
func (c *Client) Record(ctx context.Context, id Identity) (pairs []string, locked bool, err error) {
	err = Repeat(ctx, func(ctx context.Context) error {
		// The scripts' replies are lists, so a list needs no second decoder.
		cmd := redis.NewMapStringStringCmd(ctx, "hgetall", id.Record)
		lock := redis.NewIntCmd(ctx, "exists", id.Lock)
		if err := c.sendTogether(ctx, cmd, lock); err != nil {
			return err
		}
		locked = lock.Val() > 0
		pairs = pairs[:0]
		for field, value := range cmd.Val() {
			pairs = append(pairs, field, value)
		}
		return nil
	})
	return pairs, locked, wrongType(err)
}

// membersCount is about how many members of a sorted set a server reads for one step.
const membersCount = 1000

// Members reads a sorted set, in steps that do not occupy the server for long. Each member is in
// the result once. One that enters or leaves meanwhile may be missing, and so may any after a
// failover in between. ctx must have a deadline.
func (c *Client) Members(ctx context.Context, key string) (members []string, err error) {
	seen := make(map[string]bool)
	for cursor := uint64(0); ; {
		var read []string // member, score, ...
		err := Repeat(ctx, func(ctx context.Context) (err error) {
			cmd := redis.NewScanCmd(ctx, nil, "zscan", key, cursor, "count", membersCount)
			if err := c.send(ctx, cmd); err != nil {
				return err
			}
			read, cursor = cmd.Val()
			return nil
		})
		if err != nil {
			return nil, wrongType(err)
		}
		for i := 0; i < len(read); i += 2 {
			if !seen[read[i]] {
				seen[read[i]] = true
				members = append(members, read[i])
			}
		}
		if cursor == 0 {
			return members, nil
		}
	}
}
