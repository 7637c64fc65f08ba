package redisidem

import (
	"fmt"
	"reflect"

	"github.com/redis/go-redis/v9"
)

// checkClient refuses clients on which the promise cannot be kept.
func checkClient(client redis.UniversalClient) error {
	if client == nil || reflect.ValueOf(client).Kind() == reflect.Pointer && reflect.ValueOf(client).IsNil() {
		return invalid("client", "must not be nil")
	}
	switch c := client.(type) {
	case *redis.Client:
		if !c.Options().ContextTimeoutEnabled {
			return unbounded("redis.Options")
		}
	case *redis.ClusterClient:
		opt := c.Options()
		if opt.ReadOnly || opt.RouteByLatency || opt.RouteRandomly {
			return fmt.Errorf("%w: a replica may answer with the past: leave ReadOnly, RouteByLatency and RouteRandomly "+
				"of redis.ClusterOptions unset", ErrUnsafeClient)
		}
		if !opt.ContextTimeoutEnabled {
			return unbounded("redis.ClusterOptions")
		}
	case *redis.Ring:
		return fmt.Errorf("%w: redis.Ring moves the keys of a shard that is away, so a finished key would read as "+
			"absent: use redis.ClusterClient or redis.Client", ErrUnsafeClient)
	default:
		return fmt.Errorf("%w: %T is neither a *redis.Client nor a *redis.ClusterClient", ErrUnsafeClient, client)
	}
	return nil
}

func unbounded(options string) error {
	return fmt.Errorf("%w: without context timeouts a call can outlast its deadline by many seconds: "+
		"set ContextTimeoutEnabled: true in %s", ErrUnsafeClient, options)
}
