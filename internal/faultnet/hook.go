package faultnet

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// Attach makes all connections of a client part of the network, including the connections to each
// node of a cluster. The client must not have any connections yet.
func (n *Network) Attach(client redis.UniversalClient) {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(dialHook{n}) })
		return
	}
	client.AddHook(dialHook{n})
}

// dialHook routes a client's connections through a network.
type dialHook struct{ network *Network }

// DialHook implements [redis.Hook].
func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return h.network.Wrap(DialFunc(next))(ctx, network, addr)
	}
}

// ProcessHook implements [redis.Hook].
func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements [redis.Hook].
func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
