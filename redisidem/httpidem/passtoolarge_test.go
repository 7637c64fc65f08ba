package httpidem_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestOversizeRetriesDoNotRunAgain lowers MaxBodyBytes after a request ran, and while one runs.
func TestOversizeRetriesDoNotRunAgain(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	running, end := make(chan struct{}, 2), make(chan struct{})
	finish := sync.OnceFunc(func() { close(end) })
	t.Cleanup(finish)
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "running" && r.Header.Get("X-Retry") == "" {
			running <- struct{}{}
			<-end
		}
		created("done")(w, r)
	})
	optional := httpidem.KeyConfig{Optional: true}
	before := serve(t, newMiddleware(t, svc, &httpidem.Config{Key: optional}).Handler(h))
	m := newMiddleware(t, svc, &httpidem.Config{Key: optional, MaxBodyBytes: 4, PassTooLarge: true, Wait: -1})
	after := serve(t, m.Handler(h))
	wantStatus(t, post(t, before.URL, "finished", "large"), http.StatusCreated)
	first := make(chan error, 1)
	go func() {
		_, err := try(t.Context(), before.URL, "running", "large")
		first <- err
	}()
	<-running
	for _, key := range []string{"finished", "running"} {
		a := post(t, after.URL, key, "large", func(r *http.Request) { r.Header.Set("X-Retry", "1") })
		if a.StatusCode != http.StatusRequestEntityTooLarge || a.Header.Get("Idempotency-Key") != key {
			t.Errorf("%s: %d %v %s", key, a.StatusCode, a.Header, a.body)
		}
	}
	finish()
	if err := <-first; err != nil {
		t.Error(err)
	}
	h.ran(t, 2)
	wantStatus(t, post(t, after.URL, "fresh", "large"), http.StatusCreated)
	h.ran(t, 3)
	if m.Count(httpidem.ResultBodyTooLarge) != 2 || m.Count(httpidem.ResultOversize) != 1 {
		t.Errorf("%d and %d", m.Count(httpidem.ResultBodyTooLarge), m.Count(httpidem.ResultOversize))
	}
}

// TestOversizeRequestsWithoutTheStore cannot know whether the key has a record.
func TestOversizeRequestsWithoutTheStore(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{Timeout: 50 * time.Millisecond})
	s.sever()
	h := counting(created("done"))
	cfg := httpidem.Config{Key: httpidem.KeyConfig{Optional: true}, MaxBodyBytes: 4, PassTooLarge: true}
	m := newMiddleware(t, svc, &cfg)
	if w := call(m.Handler(h), newRequest(t.Context(), "k", "large")); w.Code != http.StatusServiceUnavailable || m.Count(httpidem.ResultUnavailable) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 0)
	cfg.FailOpen = true
	m = newMiddleware(t, svc, &cfg)
	if w := call(m.Handler(h), newRequest(t.Context(), "k", "large")); w.Code != http.StatusCreated || m.Count(httpidem.ResultOpened) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 1)
}

// TestOversizeBodiesWithTheirKeyAreRefused is about a key in the body, which is not known before
// the whole body is read.
func TestOversizeBodiesWithTheirKeyAreRefused(t *testing.T) {
	t.Parallel()
	h := counting(created("done"))
	m := newStore(t).middleware(&httpidem.Config{MaxBodyBytes: 10, PassTooLarge: true, Key: httpidem.KeyConfig{
		Optional: true, Sources: []httpidem.KeySource{{Body: "/id"}},
	}})
	wantCode(t, call(m.Handler(h), newRequest(t.Context(), "ignored", `{"id": "0123456789"}`)), http.StatusRequestEntityTooLarge)
	h.ran(t, 0)
}

// TestOversizeRequestsDoNotLookProtected compares the response with that to a request without a
// key.
func TestOversizeRequestsDoNotLookProtected(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{
		Key: httpidem.KeyConfig{Optional: true}, MaxBodyBytes: 4, PassTooLarge: true, PublishRetention: true,
	})
	server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	})))
	a := post(t, server.URL, "k", "large")
	wantStatus(t, a, http.StatusOK)
	if a.body != "large" {
		t.Error(a.body)
	}
	for name := range a.Header {
		if strings.HasPrefix(name, "Idempotency") || strings.HasPrefix(name, "Access-Control") {
			t.Errorf("%s: %s", name, a.Header.Get(name))
		}
	}
}
