package httpidem_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

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

// TestRefusalsComeBeforeTheBody lets a client wait for the permission to send its body.
func TestRefusalsComeBeforeTheBody(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 100, Authorize: func(r *http.Request) error {
		if r.Header.Get("X-Denied") != "" {
			return errors.New("denied")
		}
		return nil
	}})
	h := counting(created("done"))
	server := serve(t, m.Handler(h))
	for fields, want := range map[string]string{
		"Content-Length: 10\r\n":                                          "HTTP/1.1 400", // no key
		"Idempotency-Key: a, b\r\nContent-Length: 10\r\n":                 "HTTP/1.1 400",
		"Idempotency-Key: a\r\nContent-Length: 101\r\n":                   "HTTP/1.1 413",
		"Idempotency-Key: a\r\nX-Denied: 1\r\nContent-Length: 10\r\n":     "HTTP/1.1 403",
		"Idempotency-Key: a\r\nContent-Length: 10\r\nX-Denied-Not: 1\r\n": "HTTP/1.1 100",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nExpect: 100-continue\r\n"+fields+"\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q: %q, %v, want %s", fields, line, err, want)
		}
	}
	h.ran(t, 0)
}

// TestMethodsInSmallLettersAreCovered is about handlers and services that do not care how a method
// is written.
func TestMethodsInSmallLettersAreCovered(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(created("done"))
	server := serve(t, m.Handler(h))
	for i, method := range []string{"POST", "post", "Post"} {
		a := post(t, server.URL, "k", "", func(r *http.Request) { r.Method = method })
		if a.StatusCode != http.StatusCreated || a.replayed() != (i > 0) {
			t.Errorf("%s: %d %s", method, a.StatusCode, a.body)
		}
	}
	wantStatus(t, post(t, server.URL, "", "", func(r *http.Request) { r.Method = "pAtCh"; r.Header.Del("Idempotency-Key") }), http.StatusBadRequest)
	h.ran(t, 1)
}

// TestHeadCanBeCovered is about answers without a body that tell the length of one.
func TestHeadCanBeCovered(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Methods: []string{"HEAD", "GET"}})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Content-Type", "text/x")
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		}
	})
	server := serve(t, m.Handler(h))
	for i := range 2 {
		a := post(t, server.URL, "k", "", func(r *http.Request) { r.Method, r.Body = http.MethodHead, nil })
		if a.StatusCode != http.StatusOK || a.replayed() != (i == 1) || a.Header.Get("Content-Type") != "text/x" {
			t.Errorf("%d: %d %v", i, a.StatusCode, a.Header)
		}
		if length := a.Header.Get("Content-Length"); length != "1000" && (i == 0 || length != "") {
			t.Errorf("%d: the length of a body that is not there is %q", i, length)
		}
	}
	wantStatus(t, post(t, server.URL, "k", "", func(r *http.Request) { r.Method, r.Body = http.MethodGet, nil }), http.StatusUnprocessableEntity)
	h.ran(t, 1)
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

// TestAnswersOfAnyShapeAreReplayed compares first answers with replays over a real connection.
func TestAnswersOfAnyShapeAreReplayed(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"odd values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "a\tb")
			w.Header()["Etag"] = []string{"", " x ", "\xff"}
		},
		"names in small letters": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["location"] = []string{"/small"}
			w.Header()["content-type"] = []string{"text/small"}
			_, _ = io.WriteString(w, "{}")
		},
		"status 499": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(499) },
		"a body in pieces": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				_, _ = fmt.Fprint(w, i)
			}
		},
		"no type on purpose": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		},
		"an early hint": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusSeeOther)
		},
		"a transfer encoding": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "identity")
			_, _ = io.WriteString(w, "<html>")
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "text")
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-Late", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hc := counting(h)
			server := serve(t, newStore(t).middleware(nil).Handler(hc))
			bare := serve(t, h)
			without := post(t, bare.URL, "k", "")
			first, again := post(t, server.URL, "k", ""), post(t, server.URL, "k", "")
			if !again.replayed() || first.StatusCode != without.StatusCode || again.StatusCode != without.StatusCode || first.body != without.body ||
				again.body != without.body {
				t.Errorf("without %d %q, first %d %q, again %d %q", without.StatusCode, without.body, first.StatusCode, first.body, again.StatusCode, again.body)
			}
			for _, field := range []string{"Content-Type", "Location", "Link", "Etag"} {
				a, b, c := strconv.Quote(strings.Join(without.Header[field], "|")), strconv.Quote(strings.Join(first.Header[field], "|")),
					strconv.Quote(strings.Join(again.Header[field], "|"))
				if a != b || a != c {
					t.Errorf("%s: without %s, first %s, again %s", field, a, b, c)
				}
			}
			if len(first.Trailer) != len(without.Trailer) {
				t.Errorf("trailers: without %v, first %v", without.Trailer, first.Trailer)
			}
			hc.ran(t, 1)
		})
	}
}
