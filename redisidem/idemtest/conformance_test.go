package idemtest

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// onRealServers runs a test on a standalone server and on a cluster, with clients as users create
// them.
func onRealServers(t *testing.T, test func(t *testing.T, client func() redis.UniversalClient)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		addr := rediscase.Server(t).Addr()
		test(t, func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		addrs := rediscase.Cluster(t).Addrs()
		test(t, func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
		})
	})
}

// inBothModes runs a test without and with auto-pipelining.
func inBothModes(t *testing.T, test func(t *testing.T, cfg *redisidem.Config)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, nil) })
	t.Run("pipelined", func(t *testing.T) { test(t, &redisidem.Config{AutoPipeline: true}) })
}

func TestConformanceOfTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, cfg *redisidem.Config) {
		t.Parallel()
		srv := NewServer(t)
		Conformance(t, func(testing.TB) redis.UniversalClient { return redis.NewClient(srv.Options()) }, cfg)
	})
}

func TestConformanceOfRealServers(t *testing.T) {
	t.Parallel()
	onRealServers(t, func(t *testing.T, client func() redis.UniversalClient) {
		inBothModes(t, func(t *testing.T, cfg *redisidem.Config) {
			Conformance(t, func(testing.TB) redis.UniversalClient { return client() }, cfg)
		})
		mustBeEmpty(t, client())
	})
}

func TestConformanceWithACodecAndCopies(t *testing.T) {
	t.Parallel()
	srv := NewServer(t)
	compression, err := codec.NewCompression(1)
	if err != nil {
		t.Fatal(err)
	}
	Conformance(t, func(testing.TB) redis.UniversalClient { return redis.NewClient(srv.Options()) },
		&redisidem.Config{Codec: compression, CacheBytes: 1 << 20, Owner: "test"})
}

// mustBeEmpty checks that the suite has removed its keys, and closes the client.
func mustBeEmpty(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	defer func() { _ = client.Close() }()
	s := &keyspace{t: t, namespace: "idemtest-*", client: client}
	if left := s.keys(t.Context()); len(left) > 0 {
		t.Errorf("left in Redis: %q", left)
	}
}

// meddler is a hook that runs a function after each successful call of a script.
type meddler struct {
	script *lua.Script
	after  func(ctx context.Context, cmd redis.Cmder)
}

func (m meddler) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m meddler) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		args := cmd.Args()
		if err == nil && len(args) > 1 && (args[1] == m.script.SHA || args[1] == m.script.Source) {
			m.after(ctx, cmd)
		}
		return err
	}
}

func (m meddler) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestConformanceFindsBadClients runs the suite with clients that cannot keep the promise.
func TestConformanceFindsBadClients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		client func(srv *Server, t testing.TB) redis.UniversalClient
		clause string // the clause that must fail
		words  string
	}{
		{
			"server that forgets", func(srv *Server, t testing.TB) redis.UniversalClient {
				client := redis.NewClient(srv.Options())
				client.AddHook(meddler{lua.Commit, func(context.Context, redis.Cmder) { srv.redis.FlushAll() }})
				return client
			},
			"RetryGetsTheSameBytes", "want",
		},
		{
			"server that removes the expiry", func(srv *Server, t testing.TB) redis.UniversalClient {
				client, other := redis.NewClient(srv.Options()), srv.Client()
				client.AddHook(meddler{lua.Commit, func(ctx context.Context, cmd redis.Cmder) {
					key, _ := cmd.Args()[3].(string)
					if err := other.Persist(ctx, key).Err(); err != nil {
						t.Error(err)
					}
				}})
				return client
			},
			"RetryGetsTheSameBytes", "has no expiry",
		},
		{
			"client without context timeouts", func(srv *Server, _ testing.TB) redis.UniversalClient {
				opt := srv.Options()
				opt.ContextTimeoutEnabled = false
				return redis.NewClient(opt)
			},
			"RetryGetsTheSameBytes", "ContextTimeoutEnabled",
		},
		{
			"client with connections", func(srv *Server, t testing.TB) redis.UniversalClient {
				client := redis.NewClient(srv.Options())
				if err := client.Ping(t.Context()).Err(); err != nil {
					t.Error(err)
				}
				return client
			},
			"LostMessagesChangeNothing", "was not seen",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := NewServer(t)
			_, failed := runSubtests(t, func(r runner) {
				r.(*results).only = c.clause
				conformance(r, func(testing.TB) redis.UniversalClient { return c.client(srv, t) }, nil)
			})
			if !strings.Contains(failed[c.clause], c.words) {
				t.Errorf("%s says %q, not %q", c.clause, failed[c.clause], c.words)
			}
		})
	}
	_, failed := runSubtests(t, func(r runner) { conformance(r, nil, nil) })
	if !strings.Contains(failed[""], "a function that makes clients") {
		t.Errorf("without clients the suite says %q", failed)
	}
}
