package idemclient_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// TestClientReturnsErrorsThatWillNotChangeAtOnce asks net/http's own transport what goes wrong.
func TestClientReturnsErrorsThatWillNotChangeAtOnce(t *testing.T) {
	t.Parallel()
	plain := serve(t, created("done"))
	secure := httptest.NewUnstartedServer(created("done"))
	secure.Config.ErrorLog = quietLog() // of handshakes that clients break off
	secure.StartTLS()
	t.Cleanup(secure.Close)
	const attempts = 3
	const refused = "127.0.0.1:1"
	for name, c := range map[string]struct {
		url    string
		change func(*http.Request)
		trust  bool
		want   int64
	}{
		"scheme":            {url: "foo://example.com/", want: 1},
		"no host":           {url: "http:///path", want: 1},
		"header name":       {url: plain.URL, change: func(r *http.Request) { r.Header["X Y"] = []string{"a"} }, want: 1},
		"header value":      {url: plain.URL, change: func(r *http.Request) { r.Header.Set("X-Bad", "a\nb") }, want: 1},
		"trailer value":     {url: plain.URL, change: func(r *http.Request) { r.Trailer = http.Header{"X-Bad": {"a\x00b"}} }, want: 1},
		"method":            {url: plain.URL, change: func(r *http.Request) { r.Method = "BAD METHOD" }, want: 1},
		"unknown authority": {url: secure.URL, want: 1},
		"another name":      {url: strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trust: true, want: 1},
		"no TLS there":      {url: strings.Replace(plain.URL, "http:", "https:", 1), want: 1},
		"refused":           {url: "http://" + refused, want: attempts},
		"refused, with TLS": {url: "https://" + refused, want: attempts},
		"cut off":           {url: serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).URL, want: attempts},
		"odd but fine":      {url: "http://" + refused, change: func(r *http.Request) { r.Header.Set("X-Odd", "a\tb \xff") }, want: attempts},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}}
			if c.trust {
				inner.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				inner.TLSClientConfig.ServerName = "elsewhere.invalid"
			}
			defer inner.CloseIdleConnections()
			var sent atomic.Int64
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				sent.Add(1)
				return inner.RoundTrip(r)
			})
			tr := newTransport(t, base, &idemclient.TransportConfig{
				Methods: []string{http.MethodPost, "BAD METHOD"}, Attempts: attempts, MinBackoff: time.Nanosecond, MaxBackoff: time.Nanosecond,
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader("b"))
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(req)
			}
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
				t.Fatal(resp.Status)
			}
			if sent.Load() != c.want {
				t.Errorf("sent %d times, want %d: %v", sent.Load(), c.want, err)
			}
		})
	}
}

func TestDraft_2_5_1_WhatTheClientRetries(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	for _, c := range []struct {
		name     string
		first    any
		attempts int
	}{
		{"network", reset, 2},
		{"409", 409, 2},
		{"503", 503, 2},
		{"200", 200, 1},
		{"400", 400, 1},
		{"422", 422, 1},
		{"404", 404, 1},
		{"410", 410, 1},
		{"500", 500, 1},
		{"502", 502, 1},
		{"409 of the operation itself", reply(409, "Idempotency-Replayed", "true"), 1},
		{"503 that is stored", reply(503, "Idempotency-Replayed", "true"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, resp, err := play(t, nil, c.first, 201)
			if len(w.keys) != c.attempts || err != nil {
				t.Fatalf("%d attempts, %v", len(w.keys), err)
			}
			if body, _ := io.ReadAll(resp.Body); string(body) != "answer" {
				t.Errorf("the answer is %q", body)
			}
		})
	}
}
