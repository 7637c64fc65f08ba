package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/redisidem/redisidem/contrib/otelidem"
	"github.com/redisidem/redisidem/redisidem"
)

const (
	clientTrace = "0af7651916cd43dd8448eb211c80319c"
	clientSpan  = "b7ad6b7169203331"
)

// newUpstream starts an upstream, and returns its URL.
func newUpstream(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	up := httptest.NewServer(h)
	t.Cleanup(up.Close)
	return up.URL
}

// TestRequestIsOneTraceUpToTheUpstream sends a request with a W3C context.
func TestRequestIsOneTraceUpToTheUpstream(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	observer, err := otelidem.New(&otelidem.Config{TracerProvider: provider})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 1)
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		received <- r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusCreated)
	})
	b := &bench{T: t, traces: provider}
	b.serve(&Upstream{URL: parse(t, up), Timeout: 5 * time.Second}, "routes:\n  - match: POST /orders/{id}\n", Unscoped, func(c *redisidem.Config) {
		c.Observer = redisidem.Observers(c.Observer, observer)
	})
	b.want(b.send("POST", "/orders/1", "", "Idempotency-Key", "k", "Traceparent", "00-"+clientTrace+"-"+clientSpan+"-01"), 201, "", false)
	var all tracetest.SpanStubs
	for deadline := time.Now().Add(20 * time.Second); len(all) < 5; time.Sleep(time.Millisecond) {
		if all = spans.GetSpans(); time.Now().After(deadline) {
			break
		}
	}
	parents := make(map[string]string) // by name
	names := map[string]string{clientSpan: "client"}
	for i := range all {
		names[all[i].SpanContext.SpanID().String()] = all[i].Name
	}
	for i := range all {
		parents[all[i].Name] = names[all[i].Parent.SpanID().String()]
		if got := all[i].SpanContext.TraceID().String(); got != clientTrace {
			t.Errorf("%s is in the trace %s", all[i].Name, got)
		}
	}
	for name, parent := range map[string]string{
		"POST /orders/{id}": "client", "redisidem claim": "POST /orders/{id}", "redisidem stage started": "POST /orders/{id}",
		"HTTP POST": "redisidem stage started", "redisidem commit": "POST /orders/{id}",
	} {
		if parents[name] != parent {
			t.Errorf("the parent of %q is %q, want %q, in %v", name, parents[name], parent, parents)
		}
	}
	if got := <-received; !strings.HasPrefix(got, "00-"+clientTrace) || names[strings.Split(got+"---", "-")[2]] != "HTTP POST" {
		t.Errorf("the upstream got the context %q", got)
	}
	b.logs(`"trace_id":"` + clientTrace + `"`)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, b.admin.URL+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `# {trace_id="`+clientTrace+`"}`) {
		t.Error("the scrape has no exemplar")
	}
}

// TestWithoutTracingTheContextOfTheClientIsForwarded has a gateway without a provider.
func TestWithoutTracingTheContextOfTheClientIsForwarded(t *testing.T) {
	t.Parallel()
	received := make(chan string, 1)
	b := &bench{T: t}
	b.serve(&Upstream{URL: parse(t, newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		received <- r.Header.Get("Traceparent") + r.Header.Get("Tracestate")
	})), Timeout: 5 * time.Second}, "", Unscoped)
	const parent = "00-" + clientTrace + "-" + clientSpan + "-01"
	b.send("POST", "/", "", "Idempotency-Key", "k", "Traceparent", parent, "Tracestate", "vendor=1")
	if got := <-received; got != parent+"vendor=1" {
		t.Errorf("the upstream got %q", got)
	}
	if strings.Contains(b.log.String(), "trace_id") {
		t.Errorf("the log is %s", b.log.String())
	}
}
