package httpidem_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestTrailersAreReplayed compares the trailers of a replay with those of the first response.
func TestTrailersAreReplayed(t *testing.T) {
	t.Parallel()
	declared := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Trailer", "grpc-status, X-Sum")
			w.Header().Add("Trailer", "X-Unset")
			_, _ = io.WriteString(w, body)
			w.Header().Set("Grpc-Status", "0")
			w.Header()["X-Sum"] = []string{"1", "2"}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"declared":       declared("body"),
		"without a body": declared(""),
		"also a header":  func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Link", "<a>"); declared("body")(w, r) },
		"undeclared, flushed": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP2 %v", name, http2), func(t *testing.T) {
				t.Parallel()
				m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{KeepFlushed: true}})
				server := httptest.NewUnstartedServer(m.Handler(h))
				server.EnableHTTP2 = http2
				server.StartTLS()
				defer server.Close()
				send := func() answer {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Idempotency-Key", "k")
					req.Header.Set(callerHeader, "alice")
					resp, err := server.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = resp.Body.Close() }()
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Fatal(err)
					}
					return answer{resp, string(body)}
				}
				first, again := send(), send()
				delete(first.Trailer, "X-Unset") // declared, and without a value
				if !again.replayed() || again.body != first.body || again.Trailer.Get("Grpc-Status") != "0" ||
					!maps.EqualFunc(again.Trailer, first.Trailer, slices.Equal) || again.Header.Get("Link") != first.Header.Get("Link") {
					t.Errorf("first %v %v %q, replay %v %v %q", first.Header, first.Trailer, first.body, again.Header, again.Trailer, again.body)
				}
			})
		}
	}
}

// TestTrailersThatCannotBeStored are those that no replay may have, and those that are too large.
func TestTrailersThatCannotBeStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := s.middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Set-Cookie, X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Set-Cookie", "canary")
		w.Header().Set(http.TrailerPrefix+"Www-Authenticate", "canary")
		w.Header().Set("X-Sum", strings.Repeat("1", int(r.ContentLength)))
	}))
	for size, status := range map[int]int{1: http.StatusOK, 1 << 16: http.StatusGone} {
		key := fmt.Sprint("k", size)
		call(h, newRequest(t.Context(), key, strings.Repeat("x", size)))
		again := call(h, newRequest(t.Context(), key, strings.Repeat("x", size)))
		if again.Code != status || status == http.StatusOK && again.Result().Trailer.Get("X-Sum") != "1" { //nolint:bodyclose // it is in memory
			t.Errorf("%d bytes: %d %v", size, again.Code, again.Header())
		}
	}
	if text := s.redis.Dump(); strings.Contains(text, "canary") {
		t.Error(text)
	}
}
