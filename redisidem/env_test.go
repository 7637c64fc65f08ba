package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
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
	"github.com/redisidem/redisidem/lua"
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

// onTwoServers runs a test on an auto-pipelined standalone server and a plain cluster. It is for
// tests that sweep, which costs 1024 scripts, or send as many commands otherwise. The embedded
// server, which takes long for them, answers the sweeps of the tests in bubbles.
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

// config returns the configuration of the services of a test. Its timeout is long, since the
// machine may be busy.
func (e *env) config() redisidem.Config {
	return redisidem.Config{Namespace: e.namespace, AutoPipeline: e.auto, Timeout: 5 * time.Second}
}

// service makes a service as another process would have it. All services of a test share their
// keys.
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

// keys returns all keys in Redis that belong to the test, except tombstones.
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

// mustBeTidy checks that no lock is left and that every key except the user's own has a TTL.
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

// place returns the names of a key's record and lock in Redis.
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

// The servers are started once for all tests, when first needed, and stopped by TestMain.
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

// realServer is a server, or a group of servers, that consists of processes.
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
	controlCreated
	controlOwner
)

func readControl(client redis.UniversalClient, record string) []string {
	return strings.Split(client.HGet(ctx, record, "control").Val(), " ")
}

func setControl(client redis.UniversalClient, record string, word int, value string) error {
	words := readControl(client, record)
	words[word] = value
	return client.HSet(ctx, record, "control", strings.Join(words, " ")).Err()
}

func lockedKey(t *testing.T, sc *redisidem.Scope, value string) *redisidem.Lease {
	t.Helper()
	start(t, sc, value)
	lease, err := sc.Lock(ctx, value)
	mustBe(t, err, nil)
	return lease
}

func outcome(o redisidem.Outcome) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil }
}

var errStage = errors.New("the provider is away")

// mustBeInvalid checks that err refuses the input of that name, and that its text contains each of
// the words.
func mustBeInvalid(t testing.TB, err error, field string, words ...string) {
	t.Helper()
	var refused *redisidem.InvalidError
	if !errors.As(err, &refused) || !errors.Is(err, redisidem.ErrInvalid) {
		t.Fatalf("error is %v, want a refusal of %s", err, field)
	}
	if refused.Field != field {
		t.Errorf("%q is refused, want %q: %v", refused.Field, field, err)
	}
	for _, w := range append(words, field) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not contain %q", err, w)
		}
	}
}

// dump returns the contents and expiry of all keys in Redis that belong to the test.
func (e *env) dump(client redis.UniversalClient) map[string]string {
	e.t.Helper()
	all := make(map[string]string)
	for _, k := range e.keys(client) {
		var what any
		switch kind := client.Type(ctx, k).Val(); kind {
		case "hash":
			what = client.HGetAll(ctx, k).Val()
		case "string":
			what = client.Get(ctx, k).Val()
		case "list":
			what = client.LRange(ctx, k, 0, -1).Val()
		case "zset":
			what = client.ZRangeWithScores(ctx, k, 0, -1).Val()
		case "stream":
			what = client.XRange(ctx, k, "-", "+").Val()
		default:
			e.t.Fatalf("%s is a %s", k, kind)
		}
		expiry := client.PExpireTime(ctx, k).Val()
		if !e.real {
			expiry = expiry.Round(time.Minute) // the embedded server computes it anew each time
		}
		all[k] = fmt.Sprintf("%q until %v", what, expiry)
	}
	return all
}

// mustNotChange checks that Redis holds the same after an operation as before it.
func (e *env) mustNotChange(client redis.UniversalClient, what string, operation func()) {
	e.t.Helper()
	before := e.dump(client)
	operation()
	if after := e.dump(client); !maps.Equal(before, after) {
		e.t.Errorf("%s: Redis held\n%v\nand now\n%v", what, before, after)
	}
}

// never is a callback that must not run.
func never(t testing.TB) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the callback ran")
		return redisidem.Outcome{}, nil
	}
}

// silent is the configuration of a worker that stops renewing soon, as if it had died.
var silent = redisidem.Config{MaxHold: time.Second}

// serviceOn makes a service on a client with the options.
func serviceOn(t *testing.T, opt *redis.Options, cfg redisidem.Config) *redisidem.Service {
	t.Helper()
	client := redis.NewClient(opt)
	svc, err := redisidem.New(client, &cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = svc.Close(short) // a commit that an outage cut short may still be under way
		_ = client.Close()
	})
	return svc
}

// returns is a stage that ends with an outcome.
func returns(o redisidem.Outcome) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil }
}

// drive is the loop over recovery points, as a program would write it.
func drive(sc *redisidem.Scope, value string, req redisidem.Request, stages map[string]redisidem.StageFunc) (*redisidem.Key, error) {
	key, err := sc.InitializeRequest(ctx, value, req)
	for err == nil && !key.Answered() {
		work, ok := stages[key.RecoveryPoint]
		if !ok {
			return key, redisidem.ErrUnknownRecoveryPoint
		}
		key, err = sc.WorkStage(ctx, key, work)
	}
	return key, err
}

// locked takes the lease on a key, which it makes if necessary.
func locked(t testing.TB, sc *redisidem.Scope, value string) *redisidem.Lease {
	t.Helper()
	start(t, sc, value)
	lease, err := sc.Lock(ctx, value)
	mustBe(t, err, nil)
	return lease
}

// lapse ends the lease on a key on the server, unnoticed by its owner.
func lapse(t testing.TB, e *env, raw redis.UniversalClient, key *redisidem.Key) {
	t.Helper()
	_, lock := e.place(key)
	if n, err := raw.Del(ctx, lock).Result(); n != 1 || err != nil {
		t.Fatalf("%d locks lapsed, %v", n, err)
	}
}

// mustHold checks the response body that is stored with a key.
func mustHold(t testing.TB, key *redisidem.Key, body string) {
	t.Helper()
	if key.Response == nil || string(key.Response.Body) != body {
		t.Fatalf("the response is %+v, want the body %s", key.Response, body)
	}
}

// mustStandAt checks the recovery point and the revision of a key.
func mustStandAt(t testing.TB, key *redisidem.Key, point string, revision int64) {
	t.Helper()
	if key.RecoveryPoint != point || key.Revision != revision {
		t.Fatalf("the key stands at %q, revision %d, want %q, %d", key.RecoveryPoint, key.Revision, point, revision)
	}
}

// otherRequests differ from request in one part each.
var otherRequests = map[string]redisidem.Request{
	"method": {Method: "PUT", Path: request.Path, Params: request.Params},
	"path":   {Method: request.Method, Path: "/carts/2/complete", Params: request.Params},
	"params": {Method: request.Method, Path: request.Path, Params: map[string]any{"cart": 2}},
}

var errUpstream = errors.New("upstream is down")

// until waits for a condition that holds after something happened in the background.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 2000 {
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s: never", what)
}

// wire counts the round trips of a client, and can lose a reply.
type wire struct {
	mu    sync.Mutex
	trips int
	lose  *lua.Script // the next reply to it is lost
	then  func()      // runs while it is on its way
}

func (w *wire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wiredConn{Conn: conn, wire: w}, nil
	}
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// wiredConn is one connection of a wire. A round trip is a request after which nothing is sent
// until a reply arrives.
type wiredConn struct {
	net.Conn
	wire    *wire
	asking  bool
	losing  string // the nonce of the call whose reply is to be lost
	arrived bytes.Buffer
}

func (c *wiredConn) Write(b []byte) (int, error) {
	w := c.wire
	w.mu.Lock()
	if !c.asking {
		w.trips++
	}
	c.asking = true
	if w.lose != nil {
		if nonce := nonceOf(w.lose, b); nonce != "" {
			w.lose, c.losing = nil, nonce
		}
	}
	w.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *wiredConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		w := c.wire
		w.mu.Lock()
		c.asking = false
		if c.losing == "" || err != nil {
			w.mu.Unlock()
			return n, err
		}
		// Replies before it are lost with it.
		c.arrived.Write(b[:n])
		lost := bytes.Contains(c.arrived.Bytes(), []byte(c.losing))
		then := w.then
		w.mu.Unlock()
		if lost {
			if then != nil {
				then()
			}
			return 0, errors.Join(io.EOF, c.Close())
		}
	}
}

// nonceOf returns the nonce of a call of the script in a request, or "" if there is no such call.
func nonceOf(s *lua.Script, sent []byte) string {
	for _, name := range []string{s.SHA, s.Source} {
		_, rest, found := strings.Cut(string(sent), name+"\r\n")
		if !found {
			continue
		}
		lines := strings.Split(rest, "\r\n") // each word behind a line with its length
		keys, err := strconv.Atoi(lines[1])
		if err == nil && len(lines) > 3+2*keys {
			return lines[3+2*keys]
		}
	}
	return ""
}

// took returns the number of round trips since the last call of took.
func (w *wire) took() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.trips
	w.trips = 0
	return n
}

// wired makes a service on a wire. All scripts are loaded already.
func (e *env) wired() (*redisidem.Service, *wire) {
	e.t.Helper()
	w := &wire{}
	client := e.client()
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(w) })
	} else {
		client.AddHook(w)
	}
	e.load(client)
	cfg := e.config()
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if err := svc.Close(ctx); err != nil {
			e.t.Error(err)
		}
	})
	// redislock does not export its script, so work on keys of all nodes loads it.
	for i := range 24 {
		if _, err := svc.Scope("warm").Do(ctx, fmt.Sprint(i), request, finish("")); err != nil {
			e.t.Fatal(err)
		}
	}
	w.took()
	return svc, w
}

// load loads all scripts on every server.
func (e *env) load(client redis.UniversalClient) {
	e.t.Helper()
	load := func(ctx context.Context, node *redis.Client) error {
		for _, s := range lua.All() {
			for _, form := range []*lua.Script{s, s.Audited()} {
				if form == nil {
					continue
				}
				if err := node.ScriptLoad(ctx, form.Source).Err(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, load)
	case *redis.Client:
		err = load(ctx, c)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}
