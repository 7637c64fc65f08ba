package httpidem_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// TestForgedLeaseHeadersAreRemoved sends them as header fields, and as trailers that were announced
// and that were not.
func TestForgedLeaseHeadersAreRemoved(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpidem.RemoveLeaseHeaders(r)
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" {
			t.Errorf("the body is %q, %v", body, err)
		}
		for _, h := range []http.Header{r.Header, r.Trailer} {
			if h.Get(idemheader.Attempt) != "" || h.Get(idemheader.Fence) != "" {
				t.Errorf("forged fields are left: %v", h)
			}
		}
		if r.Trailer.Get("X-Sum") != r.Header.Get("X-Sum") {
			t.Errorf("other trailers are %v", r.Trailer)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	for _, sum := range []string{"7", ""} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(idemheader.Attempt, "77")
		r.Header.Set(idemheader.Fence, "88")
		r.Trailer = http.Header{idemheader.Attempt: {"77"}, idemheader.Fence: {"88"}}
		if sum != "" {
			r.Header.Set("X-Sum", sum)
			r.Trailer.Set("X-Sum", sum)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("body"))
	before := r.Body
	httpidem.RemoveLeaseHeaders(r)
	if r.Body != before {
		t.Error("the body of a request without trailers is another one")
	}
}
