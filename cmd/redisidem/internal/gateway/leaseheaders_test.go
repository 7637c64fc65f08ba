package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/idemheader"
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

// TestForgedLeaseFieldsInTrailersAreRemoved sends the fields of a lease as trailers, which some
// servers add to the header.
func TestForgedLeaseFieldsInTrailersAreRemoved(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {key: optional}", Unscoped)
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Trailer.Get(idemheader.Attempt) != "" || r.Trailer.Get(idemheader.Fence) != "" || r.Trailer.Get("X-Sum") != r.Header.Get("X-Sum") {
			t.Errorf("%s %q: the upstream got the trailers %v", r.Method, r.Header.Get("Idempotency-Key"), r.Trailer)
		}
	})
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		for key, sum := range map[string]string{"": "7", "k": "7", "k2": ""} {
			r := b.request(t.Context(), method, "/", io.MultiReader(strings.NewReader("body")))
			if key != "" {
				r.Header.Set("Idempotency-Key", key)
			}
			r.Trailer = http.Header{idemheader.Attempt: {"77"}, idemheader.Fence: {"88"}}
			if sum != "" {
				r.Header.Set("X-Sum", sum)
				r.Trailer.Set("X-Sum", sum)
			}
			if res := b.do(r); res.StatusCode != http.StatusOK {
				t.Errorf("%s %q: %d", method, key, res.StatusCode)
			}
		}
	}
}
