package httpidem_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS6_RequestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 10})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, again := r.Body.Read(make([]byte, 1))
		second, bodyErr := r.GetBody()
		if bodyErr != nil {
			t.Error(bodyErr)
			return
		}
		copied, _ := io.ReadAll(second)
		_, _ = fmt.Fprintf(w, "%q %v %v %q %d %v", body, err, again, copied, r.ContentLength, r.Trailer)
	})
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Outer-Limit") != "" {
			r.Body = http.MaxBytesReader(w, r.Body, 3)
		}
		m.Handler(h).ServeHTTP(w, r)
	}))
	if a := post(t, server.URL, "a", "\x00\xff binary"); a.body != `"\x00\xff binary" <nil> EOF "\x00\xff binary" 9 map[]` {
		t.Error(a.body)
	}
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	if a := post(t, server.URL, "b", "0123456789", chunked); a.body != `"0123456789" <nil> EOF "0123456789" -1 map[]` {
		t.Error(a.body)
	}
	// The length that was announced is no part of the request's meaning.
	if a := post(t, server.URL, "b", "0123456789"); !a.replayed() {
		t.Error(a.body)
	}
	h.ran(t, 2)
	wantStatus(t, post(t, server.URL, "c", "0123456789X"), http.StatusRequestEntityTooLarge)
	wantStatus(t, post(t, server.URL, "c", "0123456789X", chunked), http.StatusRequestEntityTooLarge)
	wantStatus(t, post(t, server.URL, "c", "0123", func(r *http.Request) { r.Header.Set("X-Outer-Limit", "1") }), http.StatusRequestEntityTooLarge)
	h.ran(t, 2)
	// None of these bound the key.
	if a := post(t, server.URL, "c", "fits"); a.StatusCode != http.StatusOK || a.replayed() {
		t.Error(a.body)
	}
}

func TestTruncatedBodyIsRefused(t *testing.T) {
	t.Parallel()
	h := counting(created("done"))
	r := newRequest(t.Context(), "k", "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{}))
	w := call(newStore(t).middleware(nil).Handler(h), r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 0)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Tests of what a client can send that no library would, and of what handlers do that few should.

// TestRequestsThatEndEarlyRunNothing sends bodies that are shorter than they say.
func TestRequestsThatEndEarlyRunNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := s.middleware(nil)
	h := counting(created("done"))
	server := serve(t, m.Handler(h))
	for name, request := range map[string]string{
		"length":        "Content-Length: 10\r\n\r\n12345",
		"chunked":       "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
		"within chunk":  "Transfer-Encoding: chunked\r\n\r\n5\r\n123",
		"bad chunk":     "Transfer-Encoding: chunked\r\n\r\nzz\r\n12345\r\n0\r\n\r\n",
		"expected":      "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
		"within line":   "Content-Length: 10\r\nX-Unfin",
		"two lengths":   "Content-Length: 10\r\nContent-Length: 5\r\n\r\n1234512345",
		"length, chunk": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nIdempotency-Key: k\r\nConnection: close\r\n"+request)
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		text, _ := io.ReadAll(conn)
		_ = conn.Close()
		if strings.Contains(string(text), " 201 ") {
			t.Errorf("%s: %s", name, text)
		}
	}
	h.ran(t, 0)
	if n := len(s.redis.Keys()); n != 0 {
		t.Errorf("%d keys are stored", n)
	}
	if a := post(t, server.URL, "k", "12345"); a.StatusCode != http.StatusCreated || a.replayed() {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestClientHTTP2GoesAwayInTheMiddleOfABody sends half of a request over HTTP/2.
func TestClientHTTP2GoesAwayInTheMiddleOfABody(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	seen := make(chan httpidem.Result, 10)
	m := s.middleware(&httpidem.Config{Observer: func(_ context.Context, e httpidem.Event) { seen <- e.Result }})
	server := httptest.NewUnstartedServer(m.Handler(h))
	server.Config.ErrorLog = quietLog()
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "k")
	req.Header.Set(callerHeader, "alice")
	go func() {
		_, _ = io.WriteString(w, "half")
		time.Sleep(50 * time.Millisecond)
		cancel()
	}()
	if resp, err := server.Client().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
	if r := <-seen; r != httpidem.ResultBodyUnreadable {
		t.Errorf("result %v", r)
	}
	h.ran(t, 0)
	if n := len(s.redis.Keys()); n != 0 {
		t.Errorf("%d keys are stored", n)
	}
}

// TestDeclaredLengthReservesLittle declares a body of the largest size that is allowed, and sends a
// short one.
func TestDeclaredLengthReservesLittle(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 1 << 40}).Handler(counting(func(http.ResponseWriter, *http.Request) {}))
	r := newRequest(t.Context(), "k", "short")
	r.ContentLength = 1 << 40
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r) // it would end the program if it reserved the memory
	if w.Code != http.StatusOK {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// TestOversizeBodiesPassWhereKeysAreOptional sends bodies above MaxBodyBytes to a middleware that
// passes them.
func TestOversizeBodiesPassWhereKeysAreOptional(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	whole := strings.Repeat("0123456789", 2*limit/10)
	for name, spool := range map[string]*httpidem.Spool{"memory": nil, "spool": newSpool(t, nil)} {
		s := newStore(t)
		m := s.middleware(&httpidem.Config{MaxBodyBytes: limit, Key: httpidem.KeyConfig{Optional: true}, PassTooLarge: true, Spool: spool})
		h := counting(func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != whole {
				t.Errorf("%s: %d bytes, %v", name, len(body), err)
			}
			if httpidem.Stage(r.Context()) != nil {
				t.Errorf("%s: it runs under a lease", name)
			}
		})
		server := serve(t, m.Handler(h))
		for _, length := range []int64{-1, int64(len(whole))} {
			wantStatus(t, post(t, server.URL, "k", whole, func(r *http.Request) { r.ContentLength = length }), http.StatusOK)
		}
		h.ran(t, 2)
		if n := m.Count(httpidem.ResultOversize); n != 2 || len(s.redis.Keys()) != 0 {
			t.Errorf("%s: %d results, keys %v", name, n, s.redis.Keys())
		}
		if spool != nil {
			awaitEmpty(t, spool)
		}
	}
}

// TestOuterLimitsRefuseOversizeBodies is about the limit of a reader outside of the middleware,
// which the handler could not pass either.
func TestOuterLimitsRefuseOversizeBodies(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 10, Key: httpidem.KeyConfig{Optional: true}, PassTooLarge: true})
	h := counting(created("done"))
	w := call(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 3)
		r.ContentLength = -1
		m.Handler(h).ServeHTTP(w, r)
	}), newRequest(t.Context(), "k", "0123456789X"))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 0)
}
