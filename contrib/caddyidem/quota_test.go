package caddyidem_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestScopesHaveQuotas refuses a scope that has used up its keys, while retries are still replayed
// and another scope goes on. A quota is shared with the configuration that follows.
func TestScopesHaveQuotas(t *testing.T) {
	var mu sync.Mutex
	ran := make(map[string]int)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ran[r.Header.Get("X-Client")]++
		mu.Unlock()
		_, _ = io.WriteString(w, "done")
	}), byClient+"scope_keys 2\nscope_in_flight 8\n")
	send := func(client, key string, want int) http.Header {
		t.Helper()
		status, header, body := s.post("/", key, "{}", "X-Client", client)
		if status != want {
			t.Errorf("%s %s: %d %q, want %d", client, key, status, body, want)
		}
		return header
	}
	send("a", "1", http.StatusOK)
	send("a", "2", http.StatusOK)
	if header := send("a", "3", http.StatusTooManyRequests); header.Get("Retry-After") == "" {
		t.Error("the refusal has no Retry-After")
	}
	send("b", "1", http.StatusOK)
	send("a", "1", http.StatusOK) // a retry
	if text := s.metrics(); !strings.Contains(text, `quota="keys"`) || !strings.Contains(text, "redisidem_scope_refused_total") {
		t.Errorf("there are no metrics of the quota:\n%s", text)
	}
	if err := s.load(byClient + "scope_keys 2\nscope_in_flight 8\nwait 1s\n"); err != nil {
		t.Fatal(err)
	}
	send("a", "4", http.StatusTooManyRequests)
	if ran["a"] != 2 || ran["b"] != 1 {
		t.Errorf("ran %v", ran)
	}
	for option, want := range map[string]string{"scope_keys -1": "scope_keys: must not be negative", "scope_in_flight x": "scope_in_flight"} {
		if err := s.load(byClient + option + "\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
	}
}
