// Package adaptertest is the common test suite of the adapters in contrib. It has an embedded store
// that can be cut off, a scope function, and requests with keys.
package adaptertest

import (
	"compress/gzip"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Quiet silences go-redis, which logs the connections that tests break on purpose.
type Quiet struct{}

// Printf discards a log line of go-redis.
func (Quiet) Printf(context.Context, string, ...any) {}

// Store is an embedded Redis with a service. The connection between them can be cut, and the
// commands are counted.
type Store struct {
	testing.TB
	*redisidem.Service
	// Calls counts the writes to the store's connections.
	Calls atomic.Int64

	results [httpidem.ResultSpoolUnavailable + 1]atomic.Int64

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// NewStore returns a store that ends with the test.
func NewStore(t testing.TB) *Store {
	t.Helper()
	s := &Store{TB: t}
	rdb := redis.NewClient(&redis.Options{
		Addr: miniredis.RunT(t).Addr(), Dialer: s.dial, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
		DialerRetries: 1,
	})
	var err error
	if s.Service, err = redisidem.New(rdb, &redisidem.Config{Timeout: 5 * time.Second}); err != nil { // the machine may be busy
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Heal()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		_ = rdb.Close()
	})
	return s
}

func (s *Store) dial(ctx context.Context, network, addr string) (net.Conn, error) {
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

// Sever breaks all connections and refuses new ones until Heal.
func (s *Store) Sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// Heal ends the outage that Sever began.
func (s *Store) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = false
}

type counted struct {
	net.Conn
	store *Store
}

func (c *counted) Write(p []byte) (int, error) {
	c.store.Calls.Add(1)
	return c.Conn.Write(p)
}

// CallerHeader names the caller, in place of authentication.
const CallerHeader = "X-Caller"

// Caller is a scope function that returns the value of CallerHeader.
func Caller(r *http.Request) (string, error) { return r.Header.Get(CallerHeader), nil }

// Middleware returns a middleware on the store, with Caller as its scope function. Count counts its
// results.
func (s *Store) Middleware(cfg *httpidem.Config) *httpidem.Middleware {
	s.Helper()
	var c httpidem.Config
	if cfg != nil {
		c = *cfg
	}
	observer := c.Observer
	c.Observer = func(ctx context.Context, e httpidem.Event) {
		s.results[e.Result].Add(1)
		if observer != nil {
			observer(ctx, e)
		}
	}
	m, err := httpidem.New(s.Service, Caller, &c)
	if err != nil {
		s.Fatal(err)
	}
	return m
}

// Count returns how many requests to the store's middlewares had the result.
func (s *Store) Count(r httpidem.Result) int64 { return s.results[r].Load() }

// Serve starts a server that ends with the test.
func Serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// Answer is the response of a server.
type Answer struct {
	*http.Response
	Body string
}

// Replayed reports whether the answer is marked as a replay.
func (a Answer) Replayed() bool { return a.Header.Get("Idempotency-Replayed") == "true" }

// Post sends a request of the caller alice with a key and a body.
func Post(t testing.TB, url, key, body string, change ...func(*http.Request)) Answer {
	t.Helper()
	a, err := Try(t.Context(), url, key, body, change...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Try is Post for other goroutines than that of the test. It returns errors.
func Try(ctx context.Context, url, key, body string, change ...func(*http.Request)) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set(CallerHeader, "alice")
	for _, f := range change {
		f(req)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return Answer{resp, string(got)}, err
}

// noRedirects has a transport of its own: a server that another test closes also closes the idle
// connections of the default one.
var noRedirects = &http.Client{
	Transport:     http.DefaultTransport.(*http.Transport).Clone(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// WantStatus fails the test unless the answer has the status.
func WantStatus(t testing.TB, a Answer, want int) {
	t.Helper()
	if a.StatusCode != want {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, want, a.Body)
	}
}

// WantReplay fails the test unless b equals a and is marked as a replay.
func WantReplay(t testing.TB, b, a Answer) {
	t.Helper()
	if b.StatusCode != a.StatusCode || b.Body != a.Body || b.Header.Get("Content-Type") != a.Header.Get("Content-Type") {
		t.Errorf("replayed %d %q %q, want %d %q %q", b.StatusCode, b.Header.Get("Content-Type"), b.Body,
			a.StatusCode, a.Header.Get("Content-Type"), a.Body)
	}
	if a.Replayed() || !b.Replayed() {
		t.Error("not exactly the replay is marked as one")
	}
}

// WantCompressed fails the test unless every request is answered with text, compressed if the
// request accepts gzip. A retry may accept other encodings than the first request.
func WantCompressed(t testing.TB, url, text string) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	for key, encodings := range map[string][]string{"compressed": {"gzip", "", "gzip"}, "plain": {"", "gzip", ""}} {
		for i, encoding := range encodings {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", key)
			req.Header.Set(CallerHeader, "alice")
			req.Header.Set("Accept-Encoding", encoding)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			content := io.Reader(resp.Body)
			if got := resp.Header.Get("Content-Encoding"); got != encoding {
				t.Errorf("%s, %d: encoded as %q for a client that accepts %q", key, i, got, encoding)
			} else if got == "gzip" {
				if content, err = gzip.NewReader(content); err != nil {
					t.Fatalf("%s, %d: %v", key, i, err)
				}
			}
			got, err := io.ReadAll(content)
			_ = resp.Body.Close()
			if replayed := (Answer{Response: resp}).Replayed(); err != nil || string(got) != text || replayed != (i > 0) {
				t.Errorf("%s, %d: %v, replayed %v, %.40q", key, i, err, replayed, got)
			}
		}
	}
}

// Eventually waits until so returns true.
func Eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
