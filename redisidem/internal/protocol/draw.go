package protocol

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Largest returns how many Redis keys the master with most of them has.
func (c *Client) Largest(ctx context.Context) (most int64, err error) {
	var mu sync.Mutex
	err = c.eachMaster(ctx, func(ctx context.Context, _ string, node *redis.Client) error {
		n, err := size(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		most = max(most, n)
		return err
	})
	return most, err
}

// size returns how many Redis keys a server has.
func size(ctx context.Context, node *redis.Client) (n int64, err error) {
	err = Repeat(ctx, func(ctx context.Context) (err error) {
		n, err = node.DBSize(ctx).Result()
		return err
	})
	return n, err
}

// Drawn are Redis keys that were drawn from a master at random, each perhaps several times.
type Drawn struct {
	Keys []string
	Of   int64 // how many Redis keys the master has
}

// Draw draws n Redis keys from each master.
func (c *Client) Draw(ctx context.Context, n int) (all []Drawn, err error) {
	const batch = 1000
	var mu sync.Mutex
	err = c.eachMaster(ctx, func(ctx context.Context, _ string, node *redis.Client) error {
		var d Drawn
		var err error
		if d.Of, err = size(ctx, node); err != nil {
			return err
		}
		for left := n; left > 0 && d.Of > 0; left -= batch {
			cmds := make([]redis.Cmder, min(left, batch))
			for i := range cmds {
				cmds[i] = redis.NewStringCmd(ctx, "randomkey")
			}
			if err := Repeat(ctx, func(ctx context.Context) error { return (plain{node}).send(ctx, cmds) }); err != nil {
				return err
			}
			for _, cmd := range cmds {
				if key := cmd.(*redis.StringCmd).Val(); key != "" { //nolint:forcetypeassert // made above
					d.Keys = append(d.Keys, key)
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
		return nil
	})
	return all, err
}
