package protocol

import (
	"context"
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
// acknowledged the writes of the command, even if it was refused.
func (d durable) send(ctx context.Context, key string, cmd redis.Cmder) (acknowledged int, err error) {
	client := d.client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return 0, err
		}
		client = master
	}

	wait := d.wait(ctx, client)
	if err := (plain{client}).sendTogether(ctx, []redis.Cmder{cmd, wait}); err != nil {
		cluster, ok := d.client.(*redis.ClusterClient)
		if !ok {
			return int(wait.Val()), err
		}
		if addr, ask := redis.IsAskError(err); ask {
			if node := masterAt(ctx, cluster, addr); node != nil {
				return d.follow(ctx, node, cmd)
			}
		}
		cluster.ReloadState(ctx) // the node may no longer be the key's master, and its own client does not check that
		return int(wait.Val()), err
	}
	return int(wait.Val()), nil
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
