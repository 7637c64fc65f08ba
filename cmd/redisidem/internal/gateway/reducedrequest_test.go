package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// TestSpansHaveNoSecrets looks for what a client and an upstream say in all that spans contain, for
// an answer and for a failure.
func TestSpansHaveNoSecrets(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "token=canary-query" || r.Header.Get("X-Secret") != "canary-field" || r.URL.Path == "/" {
			t.Errorf("the upstream got %s with %q", r.URL, r.Header)
		}
		if r.Method == http.MethodDelete {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte("canary-answer\r\n\r\n"))
			_ = conn.Close()
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	b := &bench{T: t, traces: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))}
	b.serve(&Upstream{URL: parse(t, up), Timeout: 5 * time.Second}, "", Unscoped)
	fields := []string{"Idempotency-Key", "canary-key", "X-Secret", "canary-field", "X-Forwarded-For", "canary-client", "User-Agent", "canary-agent"}
	b.want(b.send("POST", "/orders/canary-path?token=canary-query", "canary-body", fields...), 201, "", false)
	if res := b.send("DELETE", "/orders/canary-path?token=canary-query", "", fields...); res.status != http.StatusBadGateway {
		t.Errorf("the failure is answered with %+v", res)
	}
	var all tracetest.SpanStubs
	for deadline := time.Now().Add(20 * time.Second); len(all) < 4 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		all = spans.GetSpans()
	}
	failed := false
	for i := range all {
		failed = failed || all[i].Status.Description == errReduced.Error()
		text, err := json.Marshal(all[i].Attributes)
		if err != nil {
			t.Fatal(err)
		}
		events, err := json.Marshal(all[i].Events)
		if err != nil {
			t.Fatal(err)
		}
		if said := all[i].Name + all[i].Status.Description + string(text) + string(events); strings.Contains(said, "canary") {
			t.Errorf("a span says %s", said)
		}
	}
	if len(all) < 4 || !failed {
		t.Errorf("there are %d spans, failed: %t", len(all), failed)
	}
}
