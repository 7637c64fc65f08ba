package httpidem_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

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
