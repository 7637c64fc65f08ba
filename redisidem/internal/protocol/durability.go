package protocol

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// durable sends commands and then waits, on the same connection, until enough replicas have
// acknowledged them. WAIT counts the writes of the connection that it is sent on. Through a shared
// pipeline, or on another node of a cluster, it would count the writes of others.
type durable struct {
	client   redis.UniversalClient
	replicas int
}

// send is like transport.send, for the master of one key. It returns how many replicas have
// acknowledged the writes of these commands, even if a command was refused.
func (d durable) send(ctx context.Context, key string, cmds []redis.Cmder) (acknowledged int, err error) {
	client := d.client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return 0, err
		}
		client = master
	}

	wait := d.wait(ctx, client)
	if err := (plain{client}).send(ctx, append(cmds[:len(cmds):len(cmds)], wait)); err != nil {
		cluster, ok := d.client.(*redis.ClusterClient)
		if !ok {
			return int(wait.Val()), err
		}
		if addr, ask := redis.IsAskError(err); ask {
			if node := masterAt(ctx, cluster, addr); node != nil {
				return d.follow(ctx, node, cmds, int(wait.Val()))
			}
		}
		cluster.ReloadState(ctx) // the node may no longer be the key's master, and its own client does not check that
		return int(wait.Val()), err
	}
	return int(wait.Val()), nil
}

// follow repeats the commands that got an ASK error, because their keys are migrating to another
// node. Only they may follow: the other node would treat a key that has not arrived as absent. The
// argument acknowledged is the number of replicas of the first node that have acknowledged its
// writes.
func (d durable) follow(ctx context.Context, node *redis.Client, cmds []redis.Cmder, acknowledged int) (int, error) {
	var again []redis.Cmder
	for _, cmd := range cmds {
		if _, ask := redis.IsAskError(cmd.Err()); ask {
			again = append(again, redis.NewCmd(ctx, "asking"), cmd)
		}
	}
	wait := d.wait(ctx, node)
	if err := (plain{node}).send(ctx, append(again, wait)); err != nil {
		return 0, err
	}
	if 2*len(cmds) == len(again) {
		return int(wait.Val()), nil
	}
	return min(acknowledged, int(wait.Val())), firstError(cmds)
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

// masterAt returns the client of the master with that address, or nil if no master with slots has
// it.
func masterAt(ctx context.Context, cluster *redis.ClusterClient, addr string) (found *redis.Client) {
	var mu sync.Mutex
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		if node.Options().Addr == addr {
			mu.Lock()
			defer mu.Unlock()
			found = node
		}
		return nil
	})
	return found
}

// wait makes the command that waits for the replicas.
func (d durable) wait(ctx context.Context, client redis.UniversalClient) *redis.IntCmd {
	return redis.NewIntCmd(ctx, "wait", d.replicas, patience(ctx, client).Milliseconds())
}

// patience returns how long WAIT may wait. Its answer must arrive before ctx ends, and before the
// client gives up the connection, because too few replicas are an answer and silence is not. It
// leaves time for a second try, because the client learns only after the wait that a script is
// missing.
func patience(ctx context.Context, client redis.UniversalClient) time.Duration {
	d := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		d = time.Until(deadline) / 2
	}
	if node, ok := client.(*redis.Client); ok && node.Options().ReadTimeout > 0 {
		d = min(d, node.Options().ReadTimeout/4*3)
	}
	return max(d, time.Millisecond)
}
