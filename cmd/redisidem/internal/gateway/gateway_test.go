package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestGatewayReplays(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", fromTenant(t))
	for i := range 3 {
		b.want(b.send("POST", "/orders?a=1", "book", "Idempotency-Key", "k", "X-Tenant", "acme"), 201, "order 1", i > 0)
	}
	b.want(b.send("POST", "/orders?a=1", "book", "Idempotency-Key", "k", "X-Tenant", "other"), 201, "order 2", false)
	b.want(b.send("POST", "/orders?a=2", "book", "Idempotency-Key", "k", "X-Tenant", "acme"), 422, "already used", false)
	b.want(b.send("POST", "/orders", "book"), 201, "order 3", false) // no key, and none is required
	b.want(b.send("GET", "/orders", "", "Idempotency-Key", "k"), 201, "order 4", false)
	b.want(b.send("POST", "/orders", "book", "Idempotency-Key", "k"), 401, "not identified", false)
	b.want(b.send("POST", "/orders", "book", "Idempotency-Key", "k", "X-Tenant", "a", "X-Tenant", "b"), 401, "not identified", false)
}

// TestGatewayInFrontOfAServiceWithKeys is about two that share a Redis: each has its records in a
// namespace of its own.
func TestGatewayInFrontOfAServiceWithKeys(t *testing.T) {
	t.Parallel()
	for _, keep := range []string{"final", "all"} {
		t.Run(keep, func(t *testing.T) {
			t.Parallel()
			b := setUp(t, "defaults: {interrupted: run, keep: "+keep+"}", Unscoped, func(c *redisidem.Config) { c.Namespace = "gateway" })
			service, err := redisidem.OpenUnchecked("redis://"+b.redis.Addr(), &redisidem.Config{Namespace: "service", Timeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := service.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			var executed atomic.Int64
			m, err := httpidem.New(service, httpidem.Unscoped, &httpidem.Config{Observer: func(_ context.Context, e httpidem.Event) {
				if e.Result == httpidem.ResultExecuted {
					executed.Add(1)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			work := make(chan struct{})
			charges := atomic.Int64{}
			charge := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				charges.Add(1)
				<-work
				_, _ = fmt.Fprint(w, "charge ", charges.Load())
			}))
			done := make(chan struct{})
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Idempotency-Attempt") != "1" {
					charge.ServeHTTP(w, r)
					return
				}
				// The first attempt's connection breaks while the service goes on with it.
				began := executed.Load()
				go func() {
					defer close(done)
					charge.ServeHTTP(httptest.NewRecorder(), r.Clone(context.WithoutCancel(r.Context())))
				}()
				for charges.Load() == 0 && executed.Load() == began {
					time.Sleep(time.Millisecond)
				}
				panic(http.ErrAbortHandler)
			})
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 502, "", false)
			for range 2 { // the service's own refusal is given, and asked for again
				a := b.send("POST", "/", "", "Idempotency-Key", "k")
				b.want(a, 409, "outstanding", false)
				if a.header.Get("Idempotency-Problem") != "in-flight" || a.header.Get("Retry-After") == "" {
					t.Errorf("%v", a.header)
				}
			}
			b.want(b.send("POST", "/", "other", "Idempotency-Key", "k"), 422, "", false)
			close(work)
			<-done
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charge 1", false)
			b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 200, "charge 1", true)
			if n := charges.Load(); n != 1 {
				t.Errorf("%d charges", n)
			}
		})
	}
}

func TestGatewayWithoutRedis(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: POST /pass, without_redis: pass}
`, Unscoped, func(c *redisidem.Config) { c.Timeout, c.CommitRetry = 100*time.Millisecond, time.Second })
	b.redis.Close()
	got := b.send("POST", "/", "", "Idempotency-Key", "k")
	b.want(got, 503, "", false)
	if got.header.Get("Retry-After") == "" || b.runs.Load() != 0 {
		t.Errorf("%v, %d runs", got.header, b.runs.Load())
	}
	b.want(b.send("POST", "/pass", "", "Idempotency-Key", "k"), 201, "order 1", false)
	b.want(b.send("GET", "/", ""), 201, "order 2", false)
	if text := b.scrape(); !strings.Contains(text, "redisidem_unprotected_total 1") {
		t.Errorf("the metrics are %s", text)
	}
}
