package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func TestS2_UpstreamIsAskedWhetherTheCallerMay(t *testing.T) {
	t.Parallel()
	b := setUp(t, "{defaults: {authorize: /may}}", fromTenant(t))
	var verdict atomic.Int64
	verdict.Store(204)
	asked := make(chan string, 10)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/may" {
			body, _ := io.ReadAll(r.Body)
			asked <- fmt.Sprint(r.Method, " ", r.Header["X-Forwarded-Method"], r.Header["X-Forwarded-Uri"], r.Header["Authorization"],
				r.Header["Idempotency-Key"], r.Header["Content-Type"], r.Header["Idempotency-Attempt"], " ", string(body))
			w.Header().Set("WWW-Authenticate", "Bearer realm=x")
			status := int(verdict.Load())
			if status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(status)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "the secret of %s", body)
	})
	send := func() answered {
		return b.send("POST", "/orders?a=b", "body", "Idempotency-Key", "k", "X-Tenant", "acme", "Authorization", "Bearer t",
			"X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/else", "Content-Type", "text/plain", "Idempotency-Attempt", "9")
	}
	b.want(send(), 200, "the secret of body", false)
	if want := "GET [POST] [/orders?a=b] [Bearer t] [] [] [] "; want != <-asked {
		t.Errorf("not asked %s", want)
	}
	b.want(send(), 200, "the secret of body", true)
	for _, c := range []struct {
		verdict int64
		status  int
	}{{401, 401}, {403, 403}, {404, 503}, {302, 503}, {500, 503}, {0, 503}} {
		verdict.Store(c.verdict)
		a := send()
		b.want(a, c.status, "not-allowed", false)
		if strings.Contains(a.body, "secret") || (a.header.Get("WWW-Authenticate") == "Bearer realm=x") != (c.status == 401) ||
			(a.header.Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("%d: %v %s", c.verdict, a.header, a.body)
		}
	}
	verdict.Store(200)
	b.want(send(), 200, "the secret of body", true)
}

// TestS2_CallerCannotTakeAnythingOutOfTheQuestion names fields in Connection, which a proxy
// removes.
func TestS2_CallerCannotTakeAnythingOutOfTheQuestion(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /ask, interrupted: ask, ask: '/by-key/{key}', authorize: /may}]", fromTenant(t))
	var questions []http.Header
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			panic(http.ErrAbortHandler) // so that the next one asks
		}
		questions = append(questions, r.Header)
	})
	for range 2 {
		b.send("POST", "/ask?a=b", "", "Idempotency-Key", "k", "X-Tenant", "acme", "Authorization", "Bearer t", "Connection",
			"Upgrade, Authorization, X-Tenant, X-Forwarded-Method, X-Forwarded-Uri, Idempotency-Attempt", "Upgrade", "else")
	}
	if len(questions) != 3 {
		t.Fatalf("asked %d times", len(questions))
	}
	for i, h := range questions {
		if h.Get("Authorization") != "Bearer t" || h.Get("X-Tenant") != "acme" || h.Get("Upgrade") != "" {
			t.Errorf("question %d has %v", i, h)
		}
		if i < 2 && (h.Get("X-Forwarded-Method") != "POST" || h.Get("X-Forwarded-Uri") != "/ask?a=b") {
			t.Errorf("the upstream is asked about %q %q", h.Get("X-Forwarded-Method"), h.Get("X-Forwarded-Uri"))
		}
	}
	if got := questions[2].Get("Idempotency-Attempt"); got != "2" {
		t.Errorf("asked what became of attempt %q", got)
	}
}
