package gateway

import (
	"context"
	"sync/atomic"
	"time"
)

// readiness is whether a gateway should get requests.
type readiness struct {
	withoutRedis string
	inMemory     bool
	draining     atomic.Bool
	usable       atomic.Bool // Redis was found fit for use
}

// probeTimeout bounds the call to Redis for one readiness probe.
const probeTimeout = 2 * time.Second

// ready reports whether the gateway should get requests, and describes the state of Redis. It
// writes to Redis, and blocks for up to 2 s.
func (g *Gateway) ready(ctx context.Context) (ready bool, redis string) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	n := &g.readiness
	err := g.service.Probe(ctx)
	switch {
	case err != nil:
		redis = err.Error()
	case n.inMemory:
		redis = "in the memory of this process, for a trial only"
	case !n.usable.Load():
		redis = "accepts writes, but was not checked yet"
	default:
		redis = "accepts writes"
	}
	switch usable := n.usable.Load(); {
	case n.draining.Load():
		ready = false
	case err == nil && usable, n.withoutRedis == "always":
		ready = true
	case n.withoutRedis == "by-route":
		ready = usable || g.current.Load().policies.serveWithoutRedis()
	case n.withoutRedis == "after-start":
		ready = usable
	}
	return ready, redis
}

// RedisUsable reports to the gateway that Redis is fit for use.
func (g *Gateway) RedisUsable() { g.readiness.usable.Store(true) }

// Drain makes /readyz fail, so that load balancers send no more requests, and asks clients to
// connect again for their next one.
func (g *Gateway) Drain() { g.readiness.draining.Store(true) }
