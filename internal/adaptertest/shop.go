package adaptertest

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Shop is a server with one handler behind an adapter. It counts the runs of the handler.
type Shop struct {
	*Store
	// Adapter is the middleware that the adapter runs.
	Adapter *httpidem.Middleware
	// URL is the address of the handler.
	URL string
	// Runs counts the runs of the handler. The handler must increase it.
	Runs atomic.Int64
}

// NewShop returns a shop with a store of its own. The caller starts the server and sets URL.
func NewShop(t testing.TB, cfg *httpidem.Config) *Shop {
	t.Helper()
	s := &Shop{Store: NewStore(t)}
	s.Adapter = s.Middleware(cfg)
	return s
}

// Post sends a request of the caller alice to the handler.
func (s *Shop) Post(key, body string, change ...func(*http.Request)) Answer {
	s.Helper()
	return Post(s, s.URL, key, body, change...)
}

// WantRuns fails the test unless the handler ran want times.
func (s *Shop) WantRuns(want int64) {
	s.Helper()
	if got := s.Runs.Load(); got != want {
		s.Errorf("the handler ran %d times, want %d", got, want)
	}
}

// WantReplay sends a JSON body twice. It fails the test unless the handler runs once, succeeds, and
// its answer is replayed. It returns both answers.
func (s *Shop) WantReplay(body string) (first, again Answer) {
	s.Helper()
	asJSON := func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }
	first = s.Post("k", body, asJSON)
	if first.StatusCode >= 400 {
		s.Errorf("got %d %q", first.StatusCode, first.Body)
	}
	again = s.Post("k", body, asJSON)
	WantReplay(s, again, first)
	s.WantRuns(1)
	return first, again
}

// WantEach sends the same request twice. It fails the test unless the handler runs for both and
// both have the status.
func (s *Shop) WantEach(status int) {
	s.Helper()
	WantStatus(s, s.Post("k", ""), status)
	WantStatus(s, s.Post("k", ""), status)
	s.WantRuns(2)
}

// WantUnacknowledged fails the test unless the middleware answers 503, without any part of the
// handler's response. Once the store is back, the response must be stored, with the body "done".
// The handler must sever the store.
func (s *Shop) WantUnacknowledged() {
	s.Helper()
	a := s.Post("k", "")
	if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.Body, "done") || a.Header.Get("X-Secret") != "" ||
		a.Header.Get("Set-Cookie") != "" || a.Header.Get("Content-Encoding") != "" {
		s.Errorf("got %d %q %v", a.StatusCode, a.Body, a.Header)
	}
	s.Heal()
	s.wantLater("done")
}

// wantLater waits until a retry gets a replay with the body. The handler must have run once.
func (s *Shop) wantLater(body string) {
	s.Helper()
	Eventually(s, "a replay", func() bool {
		a := s.Post("k", "")
		return a.Replayed() && a.Body == body
	})
	s.WantRuns(1)
}

// Hijacked answers on a hijacked connection and closes it.
func Hijacked(conn net.Conn) error {
	_, err := io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	if closed := conn.Close(); err == nil {
		err = closed
	}
	return err
}

// WantHijacked fails the test unless a handler that calls [Hijacked] runs once, and retries are
// answered with 410.
func (s *Shop) WantHijacked() {
	s.Helper()
	WantStatus(s, s.Post("k", ""), 299)
	Eventually(s, "a retry with the status 410", func() bool { return s.Post("k", "").StatusCode == http.StatusGone })
	s.WantRuns(1)
}

// WantScopes fails the test unless each caller has keys of its own, and requests without a caller
// are refused. The handler at url answers with the name of its caller. At outside the middleware
// runs without the framework, so the scope function has no context.
func WantScopes(t testing.TB, url, outside string) {
	t.Helper()
	for _, name := range []string{"alice", "bob"} {
		if a := Post(t, url, "k", "", as(name)); a.Body != name {
			t.Errorf("%s got %q", name, a.Body)
		}
	}
	WantStatus(t, Post(t, url, "k", "", func(r *http.Request) { r.Header.Del(CallerHeader) }), 403)
	WantStatus(t, Post(t, outside, "k", ""), 403)
}

// WantPanic fails the test unless f panics.
func WantPanic(t testing.TB, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	f()
}

// WithoutKey removes the key from a request.
func WithoutKey(r *http.Request) { r.Header.Del("Idempotency-Key") }

func as(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(CallerHeader, name) }
}
