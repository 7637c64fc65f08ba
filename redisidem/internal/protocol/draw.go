package protocol

import (
	"context"
	"errors"
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
	// Expired is how many more draws hit a key that had expired and was not removed yet.
	Expired int
	// Of is how many Redis keys the master had in the mean while they were drawn, with expired
	// ones. Draws remove those, so that there may be many fewer at the end.
	Of float64
}

// drawBatch is how many keys are drawn in one transaction, which takes a server a fraction of a
// millisecond.
const drawBatch = 100

// Draw draws n Redis keys from each master.
//
// RANDOMKEY removes a key that has expired, and draws again. The transaction counts such keys by
// how much smaller the master is afterwards: nothing else can change it meanwhile.
func (c *Client) Draw(ctx context.Context, n int) (all []Drawn, err error) {
	var mu sync.Mutex
	err = c.eachMaster(ctx, func(ctx context.Context, _ string, node *redis.Client) error {
		var d Drawn
		for left := n; left > 0; left -= drawBatch {
			of, share := 0.0, float64(min(left, drawBatch))/float64(n)
			if err := Repeat(ctx, func(ctx context.Context) (err error) {
				of, err = d.add(ctx, node, min(left, drawBatch))
				return err
			}); err != nil {
				return err
			}
			if of == 0 {
				break
			}
			d.Of += of * share
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
		return nil
	})
	return all, err
}

// add draws n more keys. It returns how many the master had in the mean meanwhile.
func (d *Drawn) add(ctx context.Context, node *redis.Client, n int) (of float64, err error) {
	cmds := make([]*redis.StringCmd, n)
	var before, after *redis.IntCmd
	_, err = node.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		before = tx.DBSize(ctx)
		for i := range cmds {
			cmds[i] = tx.RandomKey(ctx)
		}
		after = tx.DBSize(ctx)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // nil: no key is left
		return 0, err
	}
	for _, cmd := range cmds {
		if key := cmd.Val(); key != "" {
			d.Keys = append(d.Keys, key)
		}
	}
	d.Expired += int(before.Val() - after.Val())
	return float64(before.Val()+after.Val()) / 2, nil
}
