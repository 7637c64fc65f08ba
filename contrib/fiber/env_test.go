package fiberidem_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/gofiber/fiber/v3"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// quiet keeps go-redis from writing about the connections that tests break on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// store is an embedded Redis, with a service that can be cut off from it and whose commands are counted.
type store struct {
	testing.TB
	*redisidem.Service
	calls atomic.Int64

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newStore(t testing.TB) *store {
	t.Helper()
	s := &store{TB: t}
	rdb := redis.NewClient(&redis.Options{
		Addr: miniredis.RunT(t).Addr(), Dialer: s.dial, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
		DialerRetries: 1,
	})
	var err error
	if s.Service, err = redisidem.New(rdb, &redisidem.Config{Timeout: 5 * time.Second}); err != nil { // the machine may be busy
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.heal()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		_ = rdb.Close()
	})
	return s
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

func (s *store) middleware(cfg *httpidem.Config) *httpidem.Middleware {
	s.Helper()
	m, err := httpidem.New(s.Service, caller, cfg)
	if err != nil {
		s.Fatal(err)
	}
	return m
}

// serve runs a server for the test, and returns its address.
func serve(t testing.TB, app *fiber.App) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections() // for which the server would wait
		err := errors.Join(app.ShutdownWithTimeout(20*time.Second), <-done)
		if err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return "http://" + l.Addr().String()
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

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// wantStatus fails the test unless the answer has that status.
func wantStatus(t testing.TB, a answer, want int) {
	t.Helper()
	if a.StatusCode != want {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, want, a.body)
	}
}

// wantReplay fails the test unless b is a again, with the mark of a replay.
func wantReplay(t testing.TB, b, a answer) {
	t.Helper()
	if b.StatusCode != a.StatusCode || b.body != a.body || b.Header.Get("Content-Type") != a.Header.Get("Content-Type") {
		t.Errorf("replayed %d %q %q, want %d %q %q", b.StatusCode, b.Header.Get("Content-Type"), b.body,
			a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	if a.replayed() || !b.replayed() {
		t.Error("not exactly the replay is marked as one")
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
