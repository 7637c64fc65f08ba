package redisidem_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// env is one kind of Redis with one kind of client, on which the suite runs.
type env struct {
	name string
	// real: the server is a redis-server process, not the embedded one.
	real bool
	auto bool
	// client makes a client as a user would.
	client func() redis.UniversalClient

	t         testing.TB
	namespace string
}

// onEveryServer runs a test on the embedded server, a standalone server, a cluster and a Sentinel
// group, plain and auto-pipelined, and through both protocol versions.
func onEveryServer(t *testing.T, test func(t *testing.T, e *env)) {
	t.Helper()
	onServers(t, test, func(string, bool) bool { return true })
}

// onRealServers runs a test on everything but the embedded server.
func onRealServers(t *testing.T, test func(t *testing.T, e *env)) {
	t.Helper()
	onServers(t, test, func(name string, _ bool) bool { return name != "miniredis" })
}

// onTwoServers runs a test on an auto-pipelined standalone server and a plain cluster. It is for tests
// that sweep, which costs 1024 scripts, or send as many commands otherwise. The embedded server, which
// takes long for them, answers the sweeps of the tests in bubbles.
func onTwoServers(t *testing.T, test func(t *testing.T, e *env)) {
	t.Helper()
	onServers(t, test, func(name string, auto bool) bool {
		return name == "redis" && auto || name == "cluster" && !auto
	})
}

func onServers(t *testing.T, test func(t *testing.T, e *env), wanted func(name string, auto bool) bool) {
	t.Helper()
	t.Parallel()
	type server struct {
		name   string
		real   bool
		client func(protocol int) (redis.UniversalClient, error)
	}
	for _, s := range []server{
		{"miniredis", false, embedded.client},
		{"redis", true, standalone.client},
		{"cluster", true, cluster.client},
		{"sentinel", true, sentinel.client},
	} {
		for _, auto := range []bool{false, true} {
			if !wanted(s.name, auto) {
				continue
			}
			name, protocol := s.name, 3
			if auto {
				name, protocol = name+"-auto", 2
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if s.real {
					needServer(t)
				}
				probe, err := s.client(protocol)
				if err != nil {
					t.Fatal(err)
				}
				_ = probe.Close()
				test(t, &env{name: name, real: s.real, auto: auto, t: t, namespace: freshNamespace(), client: func() redis.UniversalClient {
					client, err := s.client(protocol)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = client.Close() })
					return client
				}})
			})
		}
	}
}

var namespaces atomic.Int64

func freshNamespace() string { return fmt.Sprintf("test%d-%d", os.Getpid(), namespaces.Add(1)) }

// config is the configuration of a test's services: with time to spare, since the machine may be busy.
func (e *env) config() redisidem.Config {
	return redisidem.Config{Namespace: e.namespace, AutoPipeline: e.auto, Timeout: 5 * time.Second}
}

// service makes a service as another process would have it. Its keys are those of all services of the test.
func (e *env) service(change ...func(*redisidem.Config)) *redisidem.Service {
	e.t.Helper()
	cfg := e.config()
	for _, f := range change {
		f(&cfg)
	}
	svc, err := redisidem.New(e.client(), &cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			e.t.Errorf("close: %v", err)
		}
	})
	return svc
}

// keys returns all keys in Redis that belong to the test, but for the tombstones of deleted ones.
func (e *env) keys(client redis.UniversalClient) []string {
	e.t.Helper()
	return slices.DeleteFunc(e.everything(client), func(name string) bool {
		fields, err := client.HKeys(ctx, name).Result()
		return err == nil && slices.Equal(fields, []string{"generation"})
	})
}

// everything returns all keys in Redis that belong to the test.
func (e *env) everything(client redis.UniversalClient) []string {
	e.t.Helper()
	var mu sync.Mutex
	var keys []string
	scan := func(ctx context.Context, node *redis.Client) error {
		it := node.Scan(ctx, 0, e.namespace+":*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			keys = append(keys, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, scan)
	case *redis.Client:
		err = scan(ctx, c)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return keys
}

// mustBeTidy checks that no lock is left and that every key has a TTL, but for the user's own.
func (e *env) mustBeTidy(client redis.UniversalClient) {
	e.t.Helper()
	for _, k := range e.keys(client) {
		if strings.HasSuffix(k, ":lock") {
			e.t.Errorf("lock left: %s", k)
		}
		if strings.Contains(k, "}:x:") {
			continue
		}
		if ttl := client.PTTL(ctx, k).Val(); ttl <= 0 {
			e.t.Errorf("%s has the TTL %v", k, ttl)
		}
	}
}

// place returns the Redis keys of a key: its record and its lock.
func (e *env) place(key *redisidem.Key) (record, lock string) {
	e.t.Helper()
	for _, k := range e.everything(e.client()) {
		if strings.HasSuffix(k, ":"+key.ID()) {
			return k, k + ":lock"
		}
	}
	e.t.Fatal("no record of the key")
	return "", ""
}

// options are the client options that every test needs.
func options(addr string, protocol int) *redis.Options {
	return &redis.Options{Addr: addr, Protocol: protocol, ContextTimeoutEnabled: true, DisableIdentity: true}
}

// The servers are started once for all tests, at first need, and ended by TestMain.
var (
	embedded   embeddedServer
	standalone realServer[*redistest.Server]
	cluster    realServer[*redistest.Cluster]
	sentinel   realServer[*redistest.Sentinel]
)

type embeddedServer struct {
	once   sync.Once
	server *miniredis.Miniredis
	err    error
}

func (s *embeddedServer) client(protocol int) (redis.UniversalClient, error) {
	s.once.Do(func() {
		if s.server, s.err = miniredis.Run(); s.err == nil {
			s.server.ClockTTL(true)
		}
	})
	if s.err != nil {
		return nil, s.err
	}
	return redis.NewClient(options(s.server.Addr(), protocol)), nil
}

func (s *embeddedServer) stop() {
	s.once.Do(func() {})
	if s.server != nil {
		s.server.Close()
	}
}

// realServer is something made of processes.
type realServer[T interface{ Stop() }] struct {
	start  func() (T, error)
	dial   func(server T, protocol int) redis.UniversalClient
	mu     sync.Mutex
	ready  bool
	server T
}

func (s *realServer[T]) client(protocol int) (redis.UniversalClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		server, err := s.start()
		if err != nil {
			return nil, err
		}
		s.server, s.ready = server, true
	}
	return s.dial(s.server, protocol), nil
}

// shared starts a server that all tests share, for a test that needs its addresses.
func shared[T interface{ Stop() }](t *testing.T, s *realServer[T]) {
	t.Helper()
	needServer(t)
	client, err := s.client(3)
	mustBe(t, err, nil)
	_ = client.Close()
}

func (s *realServer[T]) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		s.server.Stop()
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	raiseParallel(8)
	redis.SetLogger(quiet{})
	standalone.start = func() (*redistest.Server, error) { return redistest.Start() }
	standalone.dial = func(s *redistest.Server, protocol int) redis.UniversalClient {
		return redis.NewClient(options(s.Addr(), protocol))
	}
	cluster.start = redistest.StartCluster
	cluster.dial = func(c *redistest.Cluster, protocol int) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: c.Addrs(), Protocol: protocol, ContextTimeoutEnabled: true, DisableIdentity: true,
		})
	}
	sentinel.start = redistest.StartSentinel
	sentinel.dial = func(s *redistest.Sentinel, protocol int) redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: s.MasterName, SentinelAddrs: s.Addrs(), Protocol: protocol, ContextTimeoutEnabled: true,
			DisableIdentity: true,
		})
	}
	leak.Main(m, embedded.stop, standalone.stop, cluster.stop, sentinel.stop)
}

// raiseParallel lets more tests run at once than there are processors, unless -parallel was given:
// most of them wait most of the time.
func raiseParallel(n int) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if parallel := flag.Lookup("test.parallel"); !given && runtime.GOMAXPROCS(0) < n {
		if err := parallel.Value.Set(strconv.Itoa(n)); err != nil {
			panic(err)
		}
	}
}

// needServer skips the test where no redis-server is installed, or fails it where one is required.
func needServer(t testing.TB) {
	t.Helper()
	rediscase.Need(t)
}

// quiet keeps go-redis from writing about the connections that tests break on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// The words of a record's control field.
const (
	controlVersion = iota
	controlRevision
	controlToken
	controlFence
	controlStageAttempts
	controlAttempts
	controlLease
	controlSpent
)

func readControl(client redis.UniversalClient, record string) []string {
	return strings.Split(client.HGet(ctx, record, "control").Val(), " ")
}

func setControl(client redis.UniversalClient, record string, word int, value string) error {
	words := readControl(client, record)
	words[word] = value
	return client.HSet(ctx, record, "control", strings.Join(words, " ")).Err()
}
