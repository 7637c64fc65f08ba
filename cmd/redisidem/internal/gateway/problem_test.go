package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
)

// TestAnswersOfTheGatewaysOwnAreNeverKept is about keep: all, which keeps whatever the upstream
// answers.
func TestAnswersOfTheGatewaysOwnAreNeverKept(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {keep: all}
routes:
  - {match: POST /run, interrupted: run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped)
	silent := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, path := range []string{"/run", "/refuse", "/ask"} {
		send := func() answered { return b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]) }
		b.answer(silent)
		first := send()
		b.want(first, 502, `"status":502`, false)
		if first.header.Get("Content-Type") != "application/problem+json" || first.header.Get("Idempotency-Problem") == "" {
			t.Errorf("a problem with %v", first.header)
		}
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Method, r.Header.Get("Idempotency-Attempt"))
		})
		switch path {
		case "/run":
			b.want(send(), 200, "POST2", false)
			b.want(send(), 200, "POST2", true)
		case "/refuse":
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.want(send(), 503, "outcome of the request is unknown", false)
		case "/ask":
			b.answer(silent)
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.want(send(), 503, "outcome of the request is unknown", false)
			b.answer(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Method) })
			b.want(send(), 200, "GET", false)
			b.want(send(), 200, "GET", true)
		}
	}
	// What the upstream answers is kept, whatever it is, unless it is no status at all.
	for _, status := range []int{500, 502, 503, 504, 599} {
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), status, "", false)
		b.want(b.send("POST", "/", "", "Idempotency-Key", strconv.Itoa(status)), status, "", true)
	}
	for _, status := range []int{600, 902, 999} {
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		b.want(b.send("POST", "/run", "", "Idempotency-Key", strconv.Itoa(status)), 502, "", false)
		b.want(b.send("POST", "/run", "", "Idempotency-Key", strconv.Itoa(status)), 502, "", false)
	}
}
