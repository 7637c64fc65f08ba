//go:build unix

package outbox

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// site is a server or a cluster, with a proxy in front of each node.
type site struct {
	clustered bool
	addrs     []string           // of the nodes, the masters first
	proxies   []*redistest.Proxy // in the same order
}

// onEachSite runs a test on a standalone server and on a cluster.
func onEachSite(t *testing.T, test func(t *testing.T, s *site)) {
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		test(t, newSite(t, false, rediscase.Server(t).Addr()))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		test(t, newSite(t, true, rediscase.Cluster(t).Addrs()...))
	})
}

func newSite(t *testing.T, clustered bool, addrs ...string) *site {
	t.Helper()
	s := &site{clustered: clustered, addrs: addrs}
	for _, addr := range addrs {
		s.proxies = append(s.proxies, rediscase.Proxy(t, addr))
	}
	return s
}

// siteVariable gives a child the addresses of the nodes, through the proxies.
const siteVariable = "REDISIDEM_TEST_SITE"

func (s *site) variable() string {
	words := []string{siteVariable + "=" + fmt.Sprint(s.clustered)}
	for i, proxy := range s.proxies {
		words = append(words, s.addrs[i], proxy.Addr())
	}
	return strings.Join(words, " ")
}

// ownClient creates the client of a child.
func ownClient(readTimeout time.Duration) redis.UniversalClient {
	words := strings.Fields(os.Getenv(siteVariable))
	way := make(map[string]string)
	for i := 1; i+1 < len(words); i += 2 {
		way[words[i]] = words[i+1]
	}
	return dial(words[0] == "true", way, readTimeout)
}

// direct creates a client that bypasses the proxies. The test closes it.
func (s *site) direct(t testing.TB) redis.UniversalClient {
	t.Helper()
	way := make(map[string]string)
	for _, addr := range s.addrs {
		way[addr] = addr
	}
	client := dial(s.clustered, way, 5*time.Second)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// dial creates a client that maps the address of each node, a key of way, to the address of its
// proxy.
func dial(clustered bool, way map[string]string, readTimeout time.Duration) redis.UniversalClient {
	nodes := slices.Sorted(maps.Keys(way))
	dialer := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if to, ok := way[addr]; ok {
			addr = to
		}
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
	}
	if clustered {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: nodes, Dialer: dialer, ReadTimeout: readTimeout, ContextTimeoutEnabled: true, DisableIdentity: true,
		})
	}
	return redis.NewClient(&redis.Options{
		Addr: nodes[0], Dialer: dialer, ReadTimeout: readTimeout, ContextTimeoutEnabled: true, DisableIdentity: true,
	})
}

// masters returns the proxies in front of the masters.
func (s *site) masters() []*redistest.Proxy {
	if s.clustered {
		return s.proxies[:len(s.proxies)/2] // each has one replica
	}
	return s.proxies
}

// resume makes all proxies forward the requests that they hold.
func (s *site) resume(t testing.TB) {
	t.Helper()
	for _, proxy := range s.proxies {
		if err := proxy.Resume(); err != nil {
			t.Error(err)
		}
	}
}

// requests returns how many requests have passed the proxies.
func (s *site) requests() (n int64) {
	for _, proxy := range s.proxies {
		n += proxy.Requests()
	}
	return n
}

// scan returns the names of the Redis keys that match pattern, on all nodes.
func scan(t testing.TB, client redis.UniversalClient, pattern string) (names []string) {
	t.Helper()
	var mu sync.Mutex
	look := func(ctx context.Context, node *redis.Client) error {
		it := node.Scan(ctx, 0, pattern, 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			names = append(names, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	if c, ok := client.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(context.Background(), look)
	} else {
		err = look(context.Background(), client.(*redis.Client))
	}
	if err != nil {
		t.Fatal(err)
	}
	// SCAN may return a key twice.
	slices.Sort(names)
	return slices.Compact(names)
}
