package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/http2test"
)

// TestUpstreamIsAskedOnceByItself lets a kept connection break at the moment of a request: the
// gateway must not send it again behind the policy's back.
func TestUpstreamIsAskedOnceByItself(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "first"), 201, "order 1", false) // makes a connection to keep
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "empty"), 502, "", false)
	b.want(b.send("POST", "/", "body", "Idempotency-Key", "full"), 502, "", false)
	// Nor what has another field that Go's transport knows.
	b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	b.want(b.send("POST", "/", ""), 204, "", false)
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "X-Idempotency-Key", "other"), 502, "", false)
	if n := b.runs.Load(); n != 5 {
		t.Errorf("the upstream got %d requests, want 5", n)
	}
}

// TestEndedStreamIsNotRepeated has HTTP/2 upstreams that received a request without a body and end
// its stream. Go's transport repeats these by itself, even after PROTOCOL_ERROR, although the work
// may have been done.
func TestEndedStreamIsNotRepeated(t *testing.T) {
	t.Parallel()
	for name, end := range http2test.Ends() {
		for _, scheme := range []string{"h2c", "https"} {
			t.Run(name+"/"+scheme, func(t *testing.T) {
				t.Parallel()
				up := http2test.New(t, scheme == "https", end)
				b := &bench{T: t}
				upstream := &Upstream{URL: parse(t, scheme+"://"+up.Addr), TLS: &tls.Config{RootCAs: up.Roots}, Timeout: 5 * time.Second}
				b.serve(upstream, "{defaults: {methods: [POST, GET]}}", Unscoped)
				for i, send := range []func() answered{
					func() answered { return b.send("POST", "/", "", "Idempotency-Key", "k") },
					func() answered { return b.send("POST", "/", "") },
					func() answered { return b.send("DELETE", "/", "") },
					func() answered { return b.send("GET", "/", "", "Idempotency-Key", "k2") },
				} {
					b.want(send(), 502, "The upstream may have executed the request.", false)
					if n := up.Requests.Load(); n != int64(i+1) {
						t.Fatalf("the upstream got %d requests, want %d", n, i+1)
					}
				}
				b.logs("the upstream ended the stream")
				b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 503, "outcome of the request is unknown", false)
			})
		}
	}
}

// TestEndedStreamIsNotRepeatedOverHTTP1 has an upstream that speaks HTTP/2 over its first
// connection and ends the stream. Over the next one it speaks HTTP/1.1.
func TestEndedStreamIsNotRepeatedOverHTTP1(t *testing.T) {
	t.Parallel()
	for name, end := range http2test.Ends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := http2test.New(t, true, end)
			var others atomic.Int64
			next := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) }))
			next.Config.ErrorLog = log.New(io.Discard, "", 0)
			next.StartTLS()
			t.Cleanup(next.Close)
			b := &bench{T: t}
			address := inTurn(t, up.Addr, next.Listener.Addr().String())
			b.serve(&Upstream{URL: parse(t, "https://"+address), TLS: &tls.Config{RootCAs: up.Roots}, Timeout: 5 * time.Second}, "", Unscoped)
			b.want(b.send("DELETE", "/", ""), 502, "The upstream may have executed the request.", false)
			time.Sleep(100 * time.Millisecond) // a request that is on its way is not counted yet
			if n := up.Requests.Load() + others.Load(); n != 1 {
				t.Errorf("the upstream got %d requests", n)
			}
		})
	}
}

// inTurn returns an address whose first connection leads to one server, and all others to another
// one.
func inTurn(t *testing.T, first, others string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(stop) // neither side is sure to close its connection
	t.Cleanup(func() { _ = listener.Close() })
	serving.Go(func() {
		for target := first; ; target = others {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := new(net.Dialer).DialContext(ctx, "tcp", target)
			if err != nil {
				_ = conn.Close()
				return
			}
			context.AfterFunc(ctx, func() { _, _ = conn.Close(), to.Close() })
			join := func(from, to net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = from.Close(), to.Close()
			}
			serving.Go(func() { join(conn, to) })
			serving.Go(func() { join(to, conn) })
		}
	})
	return listener.Addr().String()
}

// TestProtectedReadIsAskedOnceByItself is about safe methods, which Go's transport repeats.
func TestProtectedReadIsAskedOnceByItself(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
		b := setUp(t, "{defaults: {methods: ["+method+"]}}", Unscoped)
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 || len(r.TransferEncoding) != 0 || r.Header["Content-Length"] != nil {
				t.Errorf("%s: length %d, %q, transfer encoding %q", method, r.ContentLength, r.Header["Content-Length"], r.TransferEncoding)
			}
			w.WriteHeader(http.StatusNoContent)
		})
		b.want(b.send(method, "/", "", "Idempotency-Key", "first"), 204, "", false) // makes a connection to keep
		b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		b.want(b.send(method, "/", "", "Idempotency-Key", "second"), 502, "", false)
		if n := b.runs.Load(); n != 2 {
			t.Errorf("%s: the upstream got %d requests, want 2", method, n)
		}
	}
}

// TestProtectedTraceHasNoBody is about a method whose requests must not have a body (RFC 9110,
// section 9.3.8). The transport would send an empty one in chunks.
func TestProtectedTraceHasNoBody(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{defaults: {methods: [TRACE]}}", Unscoped)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 || len(r.TransferEncoding) != 0 {
			t.Errorf("length %d, transfer encoding %q", r.ContentLength, r.TransferEncoding)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	b.want(b.send(http.MethodTrace, "/", "", "Idempotency-Key", "k"), 204, "", false)
}

// TestCheckRequestIsRepeated lets a kept connection break under a request that asks for an outcome.
// It is harmless to repeat.
func TestCheckRequestIsRepeated(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{routes: [{match: POST /, interrupted: ask, ask: '/by-key/{key}'}]}", Unscoped)
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 502, "", false)
	var asked atomic.Int64
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost: // makes a connection to keep
			w.WriteHeader(http.StatusCreated)
		case asked.Add(1) == 1:
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, "as it was")
		}
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "other"), 201, "", false)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "as it was", false)
	if n := asked.Load(); n != 2 {
		t.Errorf("the upstream was asked %d times", n)
	}
}
