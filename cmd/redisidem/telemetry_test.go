package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestGatewayExportsItsTracesAtItsEnd starts a gateway with a collector, and one whose collector is
// away.
func TestGatewayExportsItsTracesAtItsEnd(t *testing.T) {
	var mu sync.Mutex
	var traces bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := io.Copy(&traces, r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	up := newUpstream(t, nil)
	for _, url := range []string{collector.URL, "http://127.0.0.1:1"} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
		p := start(t, "", "--upstream", up.URL, "--scope", "unscoped")
		mustPost(t, p.url, "k")
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		if err := p.Wait(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		if !strings.Contains(p.text(), `"trace_id":"`) {
			t.Error("the log has no trace")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"redisidem stage started", "redisidem-gateway"} {
		if !strings.Contains(traces.String(), name) {
			t.Errorf("%q was not exported", name)
		}
	}
}
