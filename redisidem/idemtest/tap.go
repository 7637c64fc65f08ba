package idemtest

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// tap leads a client's connections through a line.
type tap struct{ line *line }

// tapInto makes all connections of a client go through a line. The client must not have any yet.
func tapInto(client redis.UniversalClient, l *line) {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(tap{l}) })
		return
	}
	client.AddHook(tap{l})
}

// DialHook implements [redis.Hook].
func (t tap) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return t.line.dialWith(ctx, func(ctx context.Context) (net.Conn, error) { return next(ctx, network, addr) })
	}
}

// ProcessHook implements [redis.Hook].
func (tap) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements [redis.Hook].
func (tap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook { return next }
