package httpidem_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
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

// TestMiddlewaresOnOneRecordAreNamed is about two middlewares on one path that use the same record:
// the handler could never run.
func TestMiddlewaresOnOneRecordAreNamed(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]func(s *store, first *redisidem.Service, cfg redisidem.Config) *redisidem.Service{
		"one service":  func(_ *store, first *redisidem.Service, _ redisidem.Config) *redisidem.Service { return first },
		"two services": func(s *store, _ *redisidem.Service, cfg redisidem.Config) *redisidem.Service { return s.service(cfg) },
	} {
		for _, keep := range []httpidem.StatusPolicy{httpidem.KeepFinal, httpidem.KeepAll} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newStore(t)
				log := &strings.Builder{}
				cfg := redisidem.Config{Logger: slog.New(slog.NewTextHandler(log, nil))}
				first := s.service(cfg)
				seen, core := &results{}, second(s, first, cfg)
				inner := newMiddleware(t, core, &httpidem.Config{Observer: seen.observe, Response: httpidem.ResponseConfig{Status: keep}})
				outer := newMiddleware(t, first, &httpidem.Config{Response: httpidem.ResponseConfig{Status: keep}})
				runs := 0
				handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runs++ })
				h := outer.Handler(inner.Handler(handler))
				for range 2 {
					w := call(h, newRequest(t.Context(), "k", ""))
					if w.Code != 500 || w.Header().Get("Idempotency-Replayed") != "" || !strings.Contains(w.Body.String(), "#failed") || runs != 0 {
						t.Errorf("%d %v %s, the handler ran %d times", w.Code, w.Header(), w.Body, runs)
					}
					e := seen.last(t)
					if e.Result != httpidem.ResultFailed || !errors.Is(e.Err, redisidem.ErrNested) || strings.Count(e.Err.Error(), "env_test.go:") != 2 {
						t.Errorf("%+v", e)
					}
				}
				if text := log.String(); strings.Count(text, "nested on the same record") != 2 || !strings.Contains(text, "inner=httpidem/env_test.go:") ||
					!strings.Contains(text, "outer=httpidem/env_test.go:") || strings.Contains(text, "alice") {
					t.Error(text)
				}
				// Once the mistake is corrected, the same key works.
				if w := call(outer.Handler(handler), newRequest(t.Context(), "k", "")); w.Code != 200 || runs != 1 {
					t.Errorf("%d %s, the handler ran %d times", w.Code, w.Body, runs)
				}
			})
		}
	}
}

// TestMiddlewareInsideOfOtherWorkOnItsRecord is about a handler that is called by the program's own
// work on the same key.
func TestMiddlewareInsideOfOtherWorkOnItsRecord(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	seen := &results{}
	m := newMiddleware(t, svc, &httpidem.Config{Observer: seen.observe})
	h := m.Handler(http.NotFoundHandler())
	_, err := svc.Scope("alice").Do(t.Context(), "k", redisidem.Request{}, func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		if w := call(h, newRequest(ctx, "k", "")); w.Code != 500 || !errors.Is(seen.last(t).Err, redisidem.ErrNested) {
			t.Errorf("%d %+v", w.Code, seen.last(t))
		}
		return redisidem.Finish(redisidem.Response{}), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMiddlewaresOnRecordsOfTheirOwn is about two middlewares on one path that have nothing in
// common but the key.
func TestMiddlewaresOnRecordsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	outer := newMiddleware(t, s.service(redisidem.Config{Namespace: "outer"}), nil)
	inner := newMiddleware(t, s.service(redisidem.Config{Namespace: "inner"}), nil)
	handler := counting(created("order"))
	h := outer.Handler(inner.Handler(handler))
	first := call(h, newRequest(t.Context(), "k", ""))
	again := call(h, newRequest(t.Context(), "k", ""))
	if first.Code != 201 || again.Code != 201 || again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %s, then %d %s", first.Code, first.Body, again.Code, again.Body)
	}
	handler.ran(t, 1)
}

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
				service := newMiddleware(t, behind.service(redisidem.Config{Timeout: 300 * time.Millisecond}), &c.cfg).Handler(created("order"))
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

// TestProblemsNameTheirResult is about the field by which others recognise a problem, which an
// answer of the handler's never has.
func TestProblemsNameTheirResult(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(created("order"))
	first := call(h, newRequest(t.Context(), "k", "1"))
	replayed := call(h, newRequest(t.Context(), "k", "1"))
	refused := call(h, newRequest(t.Context(), "k", "2"))
	if first.Header().Get("Idempotency-Problem")+replayed.Header().Get("Idempotency-Problem") != "" ||
		refused.Header().Get("Idempotency-Problem") != "mismatch" {
		t.Errorf("%v\n%v\n%v", first.Header(), replayed.Header(), refused.Header())
	}
}
