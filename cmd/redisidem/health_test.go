package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHealthIsThatOfTheGateway(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "draining", http.StatusServiceUnavailable) })
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, want := range map[string]string{"/livez": "", "/readyz": "503 Service Unavailable: draining", "/other": "404 Not Found"} {
		err := (&healthCommand{URL: server.URL + path, Timeout: time.Minute}).Run(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	server.Close()
	if err := (&healthCommand{URL: server.URL, Timeout: time.Minute}).Run(t.Context()); err == nil {
		t.Error("a gateway that is gone is healthy")
	}
}
