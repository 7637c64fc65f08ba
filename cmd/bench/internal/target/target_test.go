package target_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/target"
	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

func start(t *testing.T, url string, latency time.Duration) *target.Server {
	t.Helper()
	s, err := target.Start(context.Background(), url, latency)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func client(t *testing.T, l *target.Link) redis.UniversalClient {
	t.Helper()
	c, err := l.Client(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWrongURLsAreRefusedWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	for url, reason := range map[string]string{
		"http://u:hunter2@h":                   "scheme must be",
		"redis+ring://u:hunter2@h":             "cluster or sentinel",
		"unix+cluster://u:hunter2@h":           "scheme must be",
		"redis://u:hunter2@h/hunter2":          "database number",
		"redis+sentinel://u:hunter2@h:26379":   "master_name",
		"redis+cluster://u:hunter2@h?nonsense": "nonsense",
		"redis://u:hunter2@h:%zz":              "cannot be parsed",
	} {
		_, err := target.Start(context.Background(), url, 0)
		if err == nil || !strings.HasPrefix(err.Error(), "--redis: ") || !strings.Contains(err.Error(), reason) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestLinkCountsWhatPasses(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	s := start(t, "redis://"+server.Addr(), 0)
	l := s.Link(1)
	c := client(t, l)
	ctx := context.Background()
	pipeline := func() {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 10 {
				p.Get(ctx, "k")
			}
			return nil
		})
		must(t, err)
	}
	must(t, c.Set(ctx, "k", "v", 0).Err())
	pipeline() // both have dialled now
	trips := l.Trips()
	in, out := l.Bytes()
	must(t, c.Set(ctx, "k", "v", 0).Err())
	pipeline()
	if got := l.Trips() - trips; got != 2 {
		t.Errorf("a command and a pipeline take %d round trips", got)
	}
	in2, out2 := l.Bytes()
	set, get := len("*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n"), len("*2\r\n$3\r\nget\r\n$1\r\nk\r\n")
	if in2-in != int64(set+10*get) || out2-out != int64(len("+OK\r\n")+10*len("$1\r\nv\r\n")) {
		t.Errorf("%d bytes went in and %d came out", in2-in, out2-out)
	}
	if l.Blind() {
		t.Error("the link is blind before Addr was called")
	}
	if addr, err := l.Addr(); err != nil || addr != server.Addr() || !l.Blind() {
		t.Errorf("the address is %q, %v; blind: %v", addr, err, l.Blind())
	}
}

func TestClientComesWithItsConnections(t *testing.T) {
	t.Parallel()
	s := start(t, "redis://"+rediscase.Server(t).Addr(), 0)
	if stats := client(t, s.Link(32)).PoolStats(); stats.TotalConns != 32 || stats.IdleConns != 32 {
		t.Errorf("the connections of 32 callers are %+v", stats)
	}
	shared, err := s.Link(32).SharedClient()
	must(t, err)
	defer func() { _ = shared.Close() }()
	if stats := shared.PoolStats(); stats.TotalConns != 0 {
		t.Errorf("without connections the statistics are %+v", stats)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Link(2).Client(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended, Client returns %v", err)
	}
}

func TestAddressIsGivenOnlyWhereItIsEnough(t *testing.T) {
	t.Parallel()
	s := start(t, "redis://:secret@"+rediscase.Server(t, redistest.Args("--requirepass", "secret")).Addr(), 0)
	if addr, err := s.Addr(); !errors.Is(err, target.ErrNoAddr) {
		t.Errorf("the address of a server with a password is %q, %v", addr, err)
	}
	s = start(t, "redis://"+rediscase.Server(t).Addr()+"/3", 0)
	if addr, err := s.Addr(); !errors.Is(err, target.ErrNoAddr) {
		t.Errorf("the address of another database is %q, %v", addr, err)
	}
}

func TestEmptyLeavesForeignKeysAlone(t *testing.T) {
	t.Parallel()
	s := start(t, "redis://"+rediscase.Server(t).Addr(), 0)
	ctx := context.Background()
	c := client(t, s.Link(1))
	must(t, c.Set(ctx, "theirs", "v", 0).Err())
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 2500 {
			p.Set(ctx, fmt.Sprint("ours-", i), "v", 0)
		}
		return nil
	})
	must(t, err)
	must(t, s.Empty(ctx, "ours-"))
	if keys, err := c.Keys(ctx, "*").Result(); err != nil || len(keys) != 1 || keys[0] != "theirs" {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
}

// TestLatencyIsAddedInFull checks a lower bound that holds on any machine.
func TestLatencyIsAddedInFull(t *testing.T) {
	t.Parallel()
	addr := rediscase.Server(t).Addr()
	for _, latency := range []time.Duration{time.Millisecond, 3 * time.Millisecond} {
		c := client(t, start(t, "redis://"+addr, latency).Link(1))
		must(t, c.Ping(context.Background()).Err())
		for range 10 {
			began := time.Now()
			must(t, c.Ping(context.Background()).Err())
			if took := time.Since(began); took < latency {
				t.Errorf("with %v of latency a round trip takes %v", latency, took)
			}
		}
	}
}

func TestStatsCountEachByteOnce(t *testing.T) {
	t.Parallel()
	s := start(t, "redis://"+rediscase.Server(t).Addr(), 0)
	ctx := context.Background()
	c := client(t, s.Link(1))
	must(t, c.Ping(ctx).Err())
	before, err := s.Stats(ctx)
	must(t, err)
	must(t, c.Set(ctx, "k", strings.Repeat("x", 100_000), 0).Err())
	must(t, c.Get(ctx, "k").Err())
	after, err := s.Stats(ctx)
	must(t, err)
	if in := after.In - before.In; in < 100_000 || in > 101_000 {
		t.Errorf("%v bytes went in", in)
	}
	if out := after.Out - before.Out; out < 100_000 || out > 101_000 {
		t.Errorf("%v bytes came out", out)
	}
	if after.Keys != 1 || after.CPU < before.CPU || before.CPU == 0 {
		t.Errorf("the statistics are %+v and then %+v", before, after)
	}
}

func TestWeighReturnsTheBytesOfAKey(t *testing.T) {
	t.Parallel()
	s := start(t, "redis://"+rediscase.Server(t).Addr(), 0)
	ctx := context.Background()
	c := client(t, s.Link(1))
	fill := func(prefix string, size int) {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 2000 {
				p.Set(ctx, fmt.Sprint(prefix, i), strings.Repeat("x", size), time.Hour)
			}
			return nil
		})
		must(t, err)
	}
	fill("small-", 200)
	fill("large-", 1200)
	must(t, c.Close()) // its buffers count, too
	small, err := s.Weigh(ctx, "small-")
	must(t, err)
	large, err := s.Weigh(ctx, "large-")
	must(t, err)
	// The allocator rounds sizes up to one of few sizes.
	if small < 200 || small > 450 || large-small < 900 || large-small > 1300 {
		t.Errorf("a key of 200 bytes weighs %v, and one of 1200 weighs %v", small, large)
	}
	if none, err := s.Weigh(ctx, "none-"); none != 0 || err != nil {
		t.Errorf("no key weighs %v, %v", none, err)
	}
}

// TestClusterAndSentinel measures and cleans up on several servers.
func TestClusterAndSentinel(t *testing.T) {
	t.Parallel()
	cluster, group := rediscase.Cluster(t), rediscase.Sentinel(t)
	for topology, url := range map[string]string{
		"cluster":  "redis+cluster://" + cluster.Addrs()[0] + "?addr=" + cluster.Addrs()[1],
		"sentinel": "redis+sentinel://" + group.Addrs()[0] + "?master_name=" + group.MasterName,
	} {
		s := start(t, url, 0)
		ctx := context.Background()
		l := s.Link(2)
		c := client(t, l)
		for i := range 300 {
			must(t, c.Set(ctx, fmt.Sprint("ours-", i), "v", 0).Err())
		}
		must(t, c.Set(ctx, "theirs", "v", 0).Err())
		stats, err := s.Stats(ctx)
		must(t, err)
		if s.Topology != topology || s.Private || !s.Measured || stats.Keys != 301 || stats.CPU == 0 || l.Trips() < 301 {
			t.Errorf("%s: %+v with %+v after %d round trips", topology, s, stats, l.Trips())
		}
		if _, err := s.Addr(); !errors.Is(err, target.ErrNoAddr) {
			t.Errorf("%s: the address is given: %v", topology, err)
		}
		if weight, err := s.Weigh(ctx, "none-"); weight != 0 || err != nil {
			t.Errorf("%s: no key weighs %v, %v", topology, weight, err)
		}
		must(t, s.Empty(ctx, "ours-"))
		if stats, err = s.Stats(ctx); err != nil || stats.Keys != 1 {
			t.Errorf("%s: %d keys are left, %v", topology, stats.Keys, err)
		}
	}
	if _, err := target.Start(context.Background(), "redis+cluster://"+cluster.Addrs()[0], time.Millisecond); err == nil ||
		!strings.Contains(err.Error(), "--latency") {
		t.Errorf("a cluster with latency: %v", err)
	}
}

func TestSecureServerIsCountedToo(t *testing.T) {
	t.Parallel()
	addr := secure(t, rediscase.Server(t).Addr())
	s := start(t, "rediss://"+addr+"?skip_verify=true", 0)
	l := s.Link(1)
	c := client(t, l)
	ctx := context.Background()
	must(t, c.Ping(ctx).Err()) // dials
	trips := l.Trips()
	must(t, c.Set(ctx, "k", "v", 0).Err())
	if got := l.Trips() - trips; got != 1 {
		t.Errorf("a command takes %d round trips", got)
	}
	if _, err := s.Addr(); !errors.Is(err, target.ErrNoAddr) {
		t.Errorf("the address is given: %v", err)
	}
	if s, err := target.Start(ctx, "rediss://"+addr, 0); err == nil {
		s.Stop()
		t.Error("an unsigned certificate was accepted")
	}
}

// secure puts TLS in front of a server.
func secure(t *testing.T, addr string) string {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = near.Close()
				return
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
	return listener.Addr().String()
}
