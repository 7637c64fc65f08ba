package gateway

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

func TestInterruptedRequestsGoTheWayOfTheirPolicy(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: POST /run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped)
	for _, path := range []string{"/run", "/refuse", "/ask"} {
		var asked []string
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler) // the upstream breaks off: the outcome is unknown
		})
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k 1"), 400, "", false) // a key that needs quotes
		b.want(b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`), 502, "did not answer", false)
		found := http.StatusServiceUnavailable
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.EscapedPath())
			if r.Method == http.MethodGet {
				w.WriteHeader(found)
				_, _ = fmt.Fprint(w, "as it was")
				return
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, "done now")
		})
		again := func() answered { return b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`) }
		switch path {
		case "/run":
			b.want(again(), 201, "done now", false)
			b.want(again(), 201, "done now", true)
		case "/refuse":
			for range 3 {
				b.want(again(), 503, "outcome of the request is unknown", false)
			}
			if len(asked) != 0 {
				t.Errorf("the upstream was asked: %q", asked)
			}
		case "/ask":
			b.want(again(), 503, "outcome of the request is unknown", false)
			found = http.StatusOK
			b.want(again(), 200, "as it was", false)
			b.want(again(), 200, "as it was", true)
			if want := "GET /by-key/k%2F%201%2Fask"; len(asked) != 2 || asked[0] != want || asked[1] != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		}
	}
	// A key that would be another path.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the upstream is asked for %s %s", r.Method, r.URL)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 503, "outcome of the request is unknown", false)
	// The upstream says that it has not done it.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "sent again: %s", body)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 200, "sent again: the body", false)
}
