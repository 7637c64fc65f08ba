package redisidem

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// durable sends commands and then waits, on the same connection, until enough replicas have acknowledged them. WAIT
// counts for the connection it is sent on: through a shared pipeline, or on another node of a cluster, its answer would
// be about somebody else's writes.
type durable struct {
	client   redis.UniversalClient
	replicas int
}

// send is like transport.send, with the key whose master the commands go to. It returns the number of replicas that
// have acknowledged the writes of these commands, also when one of them was refused.
func (d durable) send(ctx context.Context, key string, cmds []redis.Cmder) (acknowledged int, err error) {
	client := d.client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return 0, err
		}
		client = master
	}

	wait := redis.NewIntCmd(ctx, "wait", d.replicas, patience(ctx, client).Milliseconds())
	if err := (plain{client}).send(ctx, append(cmds[:len(cmds):len(cmds)], wait)); err != nil {
		if cluster, ok := d.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(ctx) // the node may no longer be the key's master, which its own client does not look after
		}
		return int(wait.Val()), err
	}
	return int(wait.Val()), nil
}

// patience is how long WAIT may wait. Its answer must come back before ctx ends, and before the client thinks that the connection
// is dead: replicas that are too few are an answer, silence is not. And there must be time for a second try, since that the server
// lacks the script is found out only when this is over.
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
