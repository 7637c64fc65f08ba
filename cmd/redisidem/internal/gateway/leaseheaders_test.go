package gateway

import (
	"net/http"
	"testing"
)

func TestUpstreamGetsAttemptAndFence(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {interrupted: run}", Unscoped)
	var seen []http.Header
	status := http.StatusInternalServerError
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Clone())
		w.WriteHeader(status)
	})
	forged := []string{"Idempotency-Key", "k", "Idempotency-Attempt", "77", "Idempotency-Fence", "88"}
	b.want(b.send("POST", "/", "", forged...), 500, "", false)
	status = http.StatusCreated
	b.want(b.send("POST", "/", "", forged...), 201, "", false)
	if len(seen) != 2 || seen[0].Get("Idempotency-Attempt") != "1" || seen[1].Get("Idempotency-Attempt") != "2" ||
		seen[0].Get("Idempotency-Fence") >= seen[1].Get("Idempotency-Fence") || seen[0].Get("Idempotency-Key") != "k" ||
		seen[0].Get("X-Forwarded-For") == "" {
		t.Errorf("the upstream saw %v", seen)
	}
	b.send("GET", "/", "", forged...)
	if seen[2].Get("Idempotency-Attempt") != "" || seen[2].Get("Idempotency-Fence") != "" {
		t.Errorf("forged fields reach the upstream: %v", seen[2])
	}
}
