package gateway

import (
	"net/http"
	"testing"
)

// TestUpstreamIsAskedOnceByItself lets a kept connection break at the moment of a request: the
// gateway must not send it again behind the policy's back.
func TestUpstreamIsAskedOnceByItself(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "first"), 201, "order 1", false) // makes a connection to keep
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "empty"), 502, "", false)
	b.want(b.send("POST", "/", "body", "Idempotency-Key", "full"), 502, "", false)
	// Nor what has another field that Go's transport knows.
	b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	b.want(b.send("POST", "/", ""), 204, "", false)
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	})
	b.want(b.send("POST", "/", "", "X-Idempotency-Key", "other"), 502, "", false)
	if n := b.runs.Load(); n != 5 {
		t.Errorf("the upstream got %d requests, want 5", n)
	}
}
