package caddyidem_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestRequestThatIsCutShortHasAnUnknownOutcome loses the lease while the upstream works.
// reverse_proxy then returns an error, or over HTTP/2 answers with 499 by itself. That must not
// become the answer of the request.
func TestRequestThatIsCutShortHasAnUnknownOutcome(t *testing.T) {
	var s *site
	ran := 0
	options := byClient + "lease 1s\ntimeout 200ms\n"
	s = start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ran++
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the connection ends
		s.redis.SetError("LOADING Redis is loading the dataset in memory")
		<-r.Context().Done()
		s.redis.SetError("")
	}), options)
	for i, scheme := range []string{"", "h2c://"} {
		s.upstreamAddr = scheme + strings.TrimPrefix(s.upstreamAddr, "h2c://")
		if err := s.load(options); err != nil {
			t.Fatal(err)
		}
		key := "k" + scheme
		status, _, _ := s.post("/", key, "{}")
		if status < 400 || ran != i+1 {
			t.Errorf("%s: %d, and the upstream has got %d requests", key, status, ran)
		}
		status, header, body := s.post("/", key, "{}")
		if status != http.StatusServiceUnavailable || header.Get("Idempotency-Replayed") != "" || !strings.Contains(body, "outcome") || ran != i+1 {
			t.Errorf("%s, retry: %d %v %q, and the upstream has got %d requests", key, status, header, body, ran)
		}
	}
}
