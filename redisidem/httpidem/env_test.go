package httpidem_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about the connections that tests break on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// store is an embedded Redis, with clients that can be cut off from it and whose commands are
// counted.
type store struct {
	testing.TB
	redis *miniredis.Miniredis
	addr  string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	calls atomic.Int64
}

func newStore(t testing.TB) *store {
	t.Helper()
	s := &store{TB: t, redis: miniredis.RunT(t)}
	s.redis.ClockTTL(true)
	s.addr = s.redis.Addr()
	return s
}

// service makes a service as another process would have it.
func (s *store) service(cfg redisidem.Config) *redisidem.Service {
	s.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second // the machine may be busy
	}
	rdb := redis.NewClient(&redis.Options{
		Addr: s.addr, Dialer: s.dial, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
	})
	svc, err := redisidem.New(rdb, &cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		s.heal()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := svc.Close(ctx); err != nil {
			s.Errorf("close: %v", err)
		}
		_ = rdb.Close()
	})
	return svc
}

func (s *store) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.conns = append(s.conns, conn)
	return &counted{conn, s}, nil
}

// sever cuts every connection and lets no new one through, until heal.
func (s *store) sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

func (s *store) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = false
}

type counted struct {
	net.Conn
	store *store
}

func (c *counted) Write(p []byte) (int, error) {
	c.store.calls.Add(1)
	return c.Conn.Write(p)
}

// callerHeader stands for authentication.
const callerHeader = "X-Caller"

func caller(r *http.Request) (string, error) { return r.Header.Get(callerHeader), nil }

// observed is a middleware whose results are counted.
type observed struct {
	*httpidem.Middleware
	counts [httpidem.ResultSpoolUnavailable + 1]atomic.Int64
}

func (m *observed) Count(r httpidem.Result) int64 { return m.counts[r].Load() }

// awaitCount waits until a result was observed n times. A client may read the end of an answer that
// a handler sends by itself, and even be answered again, before the middleware observes it.
func (m *observed) awaitCount(t *testing.T, r httpidem.Result, n int64) {
	t.Helper()
	for range 2000 {
		if m.Count(r) >= n {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := m.Count(r); got != n {
		t.Errorf("%s was observed %d times, want %d", r, got, n)
	}
}

// middleware makes a middleware on a fresh service.
func (s *store) middleware(cfg *httpidem.Config) *observed {
	s.Helper()
	return newMiddleware(s, s.service(redisidem.Config{}), cfg)
}

func newMiddleware(t testing.TB, svc *redisidem.Service, cfg *httpidem.Config) *observed {
	t.Helper()
	m := &observed{}
	var c httpidem.Config
	if cfg != nil {
		c = *cfg
	}
	observer := c.Observer
	c.Observer = func(ctx context.Context, e httpidem.Event) {
		m.counts[e.Result].Add(1)
		if observer != nil {
			observer(ctx, e)
		}
	}
	var err error
	if m.Middleware, err = httpidem.New(svc, caller, &c); err != nil {
		t.Fatal(err)
	}
	return m
}

// serve runs a server for the test.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = quietLog()
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// answer is what came back from a server.
type answer struct {
	*http.Response
	body string
}

func (a answer) replayed() bool { return a.Header.Get("Idempotency-Replayed") == "true" }

// post sends a request of alice's with a key and a body.
func post(t testing.TB, url, key, body string, change ...func(*http.Request)) answer {
	t.Helper()
	a, err := try(t.Context(), url, key, body, change...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is post for any goroutine.
func try(ctx context.Context, url, key, body string, change ...func(*http.Request)) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set(callerHeader, "alice")
	for _, f := range change {
		f(req)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return answer{resp, string(got)}, err
}

// noRedirects has a transport of its own: a server that another test closes also closes the idle
// connections of the default one.
var noRedirects = &http.Client{
	Transport:     http.DefaultTransport.(*http.Transport).Clone(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// counter is a handler that counts its runs.
type counter struct {
	runs atomic.Int64
	next http.HandlerFunc
}

func counting(next http.HandlerFunc) *counter { return &counter{next: next} }

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.runs.Add(1)
	c.next(w, r)
}

func (c *counter) ran(t testing.TB, want int64) {
	t.Helper()
	if got := c.runs.Load(); got != want {
		t.Errorf("the handler ran %d times, want %d", got, want)
	}
}

// wantStatus fails the test unless the answer has that status.
func wantStatus(t testing.TB, a answer, want int) {
	t.Helper()
	if a.StatusCode != want {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, want, a.body)
	}
}

// results is an observer of a middleware that remembers.
type results struct {
	mu     sync.Mutex
	events []httpidem.Event
}

func (r *results) observe(_ context.Context, e httpidem.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *results) last(t testing.TB) httpidem.Event {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		t.Fatal("nothing was observed")
	}
	return r.events[len(r.events)-1]
}

// events is an observer of a service that remembers.
type events struct {
	mu   sync.Mutex
	seen []redisidem.Event
}

func (e *events) Observe(_ context.Context, event redisidem.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, event)
}

func (e *events) last(t testing.TB) redisidem.Event {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.seen) == 0 {
		t.Fatal("nothing was observed")
	}
	return e.seen[len(e.seen)-1]
}

// quietLog keeps servers from writing about the panics that tests make on purpose.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

// created is a handler that answers 201 with a text.
func created(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, text)
	}
}

// retryUntilDone asks until there is no request in flight any more.
func retryUntilDone(t *testing.T, url, key, body string) answer {
	t.Helper()
	for {
		if a := post(t, url, key, body); a.StatusCode != http.StatusConflict {
			return a
		}
		runtime.Gosched()
	}
}

// inBubble runs a test in fake time, with a service on an embedded Redis whose time passes only
// when all wait.
func inBubble(t *testing.T, cfg redisidem.Config, test func(t *testing.T, svc *redisidem.Service)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true)
		defer server.Close()
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
			ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer func() { _ = rdb.Close() }()
		svc, err := redisidem.New(rdb, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		test(t, svc)
		if err := svc.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// call calls a handler without a server.
func call(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// newRequest makes a request of alice's for call.
func newRequest(ctx context.Context, key, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/orders", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", key)
	r.Header.Set(callerHeader, "alice")
	return r
}
