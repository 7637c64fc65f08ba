package redisidem_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

func TestUnsafeClientsAreRefused(t *testing.T) {
	t.Parallel()
	var noClient *redis.Client
	var noCluster *redis.ClusterClient
	for name, client := range map[string]redis.UniversalClient{"untyped": nil, "client": noClient, "cluster": noCluster} {
		t.Run("nil "+name, func(t *testing.T) {
			_, err := redisidem.New(client, nil)
			mustBeInvalid(t, err, "client", "nil")
		})
	}
	single := redis.NewClient(options("127.0.0.1:1", 3))
	addrs := []string{"127.0.0.1:1"}
	ofCluster := func(change func(*redis.ClusterOptions)) redis.UniversalClient {
		opt := &redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true}
		change(opt)
		return redis.NewClusterClient(opt)
	}
	for _, c := range []struct {
		word   string
		client redis.UniversalClient
	}{
		{"redis.Ring", redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addrs[0]}, ContextTimeoutEnabled: true})},
		{"ReadOnly", ofCluster(func(o *redis.ClusterOptions) { o.ReadOnly = true })},
		{"RouteByLatency", ofCluster(func(o *redis.ClusterOptions) { o.RouteByLatency = true })},
		{"RouteRandomly", ofCluster(func(o *redis.ClusterOptions) { o.RouteRandomly = true })},
		{
			"ContextTimeoutEnabled: true in redis.ClusterOptions",
			ofCluster(func(o *redis.ClusterOptions) { o.ContextTimeoutEnabled = false }),
		},
		{"ContextTimeoutEnabled: true in redis.Options", redis.NewClient(&redis.Options{Addr: addrs[0]})},
		{"ContextTimeoutEnabled: true", redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "x", SentinelAddrs: addrs})},
		{"struct", struct{ redis.UniversalClient }{single}},
	} {
		svc, err := redisidem.New(c.client, nil)
		mustBe(t, err, redisidem.ErrUnsafeClient)
		if svc != nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("the error %[2]v does not contain %[1]q", c.word, err)
		}
		_ = c.client.Close()
	}
}
