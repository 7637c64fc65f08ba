package httpidem_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// refusals are the ways in which a service's own middleware refuses a request whose handler does
// not run, or whose answer it cannot give, with the status of each.
var refusals = map[string]struct {
	status  int
	prepare func(t *testing.T, s *store, service http.Handler)
	change  func(*http.Request)
	cfg     httpidem.Config
}{
	"mismatch": {422, func(t *testing.T, _ *store, service http.Handler) {
		call(service, newRequest(t.Context(), "k", "another body"))
	}, nil, httpidem.Config{}},
	"gone": {410, func(t *testing.T, _ *store, service http.Handler) {
		call(service, newRequest(t.Context(), "k", ""))
	}, nil, httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}},
	"unavailable": {503, func(_ *testing.T, s *store, _ http.Handler) { s.sever() }, nil, httpidem.Config{}},
	"key-refused": {400, nil, nil, httpidem.Config{Key: httpidem.KeyConfig{Check: httpidem.UUIDKeys}}},
	"not-allowed": {403, nil, nil, httpidem.Config{Authorize: func(*http.Request) error { return errors.New("no") }}},
	"missing":     {400, nil, func(r *http.Request) { r.Header.Del("Idempotency-Key") }, httpidem.Config{}},
	"body-too-large": {413, nil, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("0123456789")), 10
	}, httpidem.Config{MaxBodyBytes: 5}},
	"a page of the program's": {400, nil, nil, httpidem.Config{Key: httpidem.KeyConfig{Check: httpidem.UUIDKeys}, WriteProblem: func(w http.ResponseWriter, _ *http.Request, p *httpidem.Problem) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(p.Status)
	}}},
}

// TestRefusalsOfAnotherMiddlewareAreNeverStored is about a middleware around another one, in one
// process and with a proxy between them, that keeps all answers.
func TestRefusalsOfAnotherMiddlewareAreNeverStored(t *testing.T) {
	t.Parallel()
	for name, c := range refusals {
		for _, proxied := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				front, behind := newStore(t), newStore(t)
				service := newMiddleware(t, behind.service(redisidem.Config{Timeout: 2 * time.Second}), &c.cfg).Handler(created("order"))
				if c.prepare != nil {
					c.prepare(t, behind, service)
				}
				asked := 0
				next := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked++
					if c.change != nil {
						c.change(r)
					}
					service.ServeHTTP(w, r)
				}))
				if proxied {
					server := httptest.NewServer(next)
					t.Cleanup(server.Close)
					target, err := url.Parse(server.URL)
					if err != nil {
						t.Fatal(err)
					}
					next = httputil.NewSingleHostReverseProxy(target)
				}
				h := front.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}}).Handler(next)
				for range 2 {
					w := call(h, newRequest(t.Context(), "k", ""))
					if w.Code != c.status || w.Header().Get("Idempotency-Replayed") != "" || w.Header().Get("Idempotency-Problem") == "" {
						t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
					}
				}
				if asked != 2 {
					t.Errorf("the service was asked %d times", asked)
				}
			})
		}
	}
}
