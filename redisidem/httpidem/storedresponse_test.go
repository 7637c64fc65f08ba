package httpidem_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS10_NothingButAMarkerIsStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/secret-place")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "secret text")
	}))
	if w := call(h, newRequest(t.Context(), "k", "")); w.Body.String() != "secret text" {
		t.Fatal(w.Body)
	}
	for _, name := range s.redis.Keys() {
		if body := s.redis.HGet(name, "response_body"); body != "" {
			t.Errorf("the record has the body %q", body)
		}
	}
	if text := s.redis.Dump(); strings.Contains(text, "secret") {
		t.Error(text)
	}
	if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusGone || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
