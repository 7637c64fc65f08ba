package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestRefusalsOfTheUpstreamAreNoAttempts is about answers that say that nothing was done.
func TestRefusalsOfTheUpstreamAreNoAttempts(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /refuse, interrupted: refuse}
  - {match: /all, interrupted: refuse, keep: all}
  - {match: /list, interrupted: refuse, keep: [2xx, 404, 422]}
`, Unscoped)
	var status atomic.Int64
	var retryAfter atomic.Bool
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if retryAfter.Load() {
			w.Header().Set("Retry-After", "1")
		}
		if n := r.Header.Get("Idempotency-Attempt"); n != "1" {
			t.Errorf("attempt %s", n)
		}
		w.WriteHeader(int(status.Load()))
	})
	for _, code := range []int{401, 403, 408, 423, 425, 429} {
		status.Store(int64(code))
		final := code != 423 && code != 425
		b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), code, "", false)
		b.want(b.send("POST", "/all", "", "Idempotency-Key", strconv.Itoa(code)), code, "", false)
		b.want(b.send("POST", "/all", "", "Idempotency-Key", strconv.Itoa(code)), code, "", final)
	}
	// So do those that are not kept because they ask for another try, or because of the route's own
	// list.
	retryAfter.Store(true)
	for _, code := range []int{404, 409, 424, 429} {
		status.Store(int64(code))
		for _, path := range []string{"/refuse", "/all", "/list"} {
			b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), code, "", false)
			b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), code, "", false)
		}
	}
	retryAfter.Store(false)
	status.Store(409)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 409, "", false)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 409, "", false)
	status.Store(422)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 422, "", false)
	b.want(b.send("POST", "/list", "", "Idempotency-Key", "klist"), 422, "", true)
	status.Store(500)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), 500, "", false)
	b.want(b.send("POST", "/refuse", "", "Idempotency-Key", "k"), 503, "outcome of the request is unknown", false)
}

// TestUpstreamThatIsStillAtWorkIsAskedAgain is about an upstream that is itself idempotent: the
// gateway gives up on its first answer, and the next attempts find the first one still at work.
func TestUpstreamThatIsStillAtWorkIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, keep := range []string{"final", "all", "[2xx, 409]"} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, "defaults: {interrupted: run, keep: "+keep+"}", Unscoped)
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if attempt := r.Header.Get("Idempotency-Attempt"); (attempt == "1") != (b.runs.Load() == 1) {
					t.Errorf("request %d is attempt %s", b.runs.Load(), attempt)
				}
				switch b.runs.Load() {
				case 1:
					panic(http.ErrAbortHandler)
				case 2, 3:
					http.Error(w, "still at work", http.StatusConflict)
				default:
					_, _ = io.WriteString(w, "charged")
				}
			})
			for _, want := range []int{502, 409, 409, 200} {
				b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), want, "", false)
			}
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charged", true)
			// A conflict with something else is an answer.
			b.runs.Store(0)
			b.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such stock", http.StatusConflict) })
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k2"), 409, "", false)
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k2"), 409, "no such stock", true)
		})
	}
}

// TestStreamsGoOnAsTheyCome holds a stream up until its beginning was read, on a route and on what
// it inherits from.
func TestStreamsGoOnAsTheyCome(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{defaults: {stream: true, authorize: /may}, routes: [{match: POST /a, authorize: none}]}", Unscoped)
	for _, path := range []string{"/a", "/b"} {
		read := make(chan struct{})
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/may" {
				if path == "/a" {
					t.Error("the upstream is asked whether a caller may, on a route that does not")
				}
				return
			}
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-read:
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the beginning is held back", path)
			}
			_, _ = io.WriteString(w, "two")
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Idempotency-Key", "k"+path[1:])
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
			t.Error(err)
		}
		close(read)
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "two" {
			t.Errorf("the rest is %q, %v", rest, err)
		}
		_ = res.Body.Close()
		b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), 410, "", false)
	}
}

// TestTrailersOfTheUpstreamAreReplayed has an upstream that answers as a gRPC server does: with the
// outcome in a trailer, or in the header if there is no message.
func TestTrailersOfTheUpstreamAreReplayed(t *testing.T) {
	t.Parallel()
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.URL.Path == "/exhausted" {
			w.Header().Set("Trailer", "Grpc-Status, Attempt")
			_, _ = io.Copy(w, r.Body)
			w.Header().Set("Grpc-Status", "8")
			w.Header().Set("Attempt", r.Header.Get("Idempotency-Attempt"))
			return
		}
		if r.URL.Path == "/refused" {
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "no such account")
			return
		}
		w.Header().Set("Grpc-Encoding", "gzip")
		if r.URL.Path == "/declared" {
			w.Header().Set("Trailer", "Grpc-Status")
		}
		_, _ = io.WriteString(w, "message")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		w.Header().Set("Grpc-Status", "0")
	}))
	up.EnableHTTP2 = true
	up.StartTLS()
	defer up.Close()
	pool := x509.NewCertPool()
	pool.AddCert(up.Certificate())
	b := &bench{T: t}
	b.serve(&Upstream{URL: parse(t, up.URL), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, "", Unscoped)
	for _, path := range []string{"/declared", "/undeclared"} {
		for _, replayed := range []bool{false, true} {
			got := b.send("POST", path, "", "Idempotency-Key", path[1:], "Te", "trailers")
			b.want(got, 200, "message", replayed)
			if got.trailer.Get("Grpc-Status") != "0" || got.header.Get("Grpc-Encoding") != "gzip" {
				t.Errorf("%s, replayed %t: %v %v", path, replayed, got.header, got.trailer)
			}
		}
	}
	for range 2 { // the upstream has refused the call, so that the attempt does not count
		got := b.send("POST", "/exhausted", "call", "Idempotency-Key", "exhausted")
		b.want(got, 200, "call", false)
		if got.trailer.Get("Grpc-Status") != "8" || got.trailer.Get("Attempt") != "1" {
			t.Errorf("%v", got.trailer)
		}
	}
	for _, replayed := range []bool{false, true} {
		got := b.send("POST", "/refused", "", "Idempotency-Key", "refused")
		b.want(got, 200, "", replayed)
		if got.header.Get("Grpc-Status") != "5" || got.header.Get("Grpc-Message") != "no such account" {
			t.Errorf("replayed %t: %v", replayed, got.header)
		}
	}
}
