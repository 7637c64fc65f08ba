package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// BenchmarkRequest is a request through the handler to an upstream over HTTP, without the network
// between client and gateway.
func BenchmarkRequest(b *testing.B) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 200))
	}))
	defer up.Close()
	upstream := &Upstream{URL: parse(b, up.URL), Timeout: 30 * time.Second}
	transport := upstream.newTransport()
	defer transport.CloseIdleConnections()
	bare := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream.URL) }, Transport: transport}
	b.Run("bare proxy", func(b *testing.B) { benchmark(b, bare) })

	metrics := NewMetrics()
	service, err := redisidem.Open(b.Context(), "redis://"+rediscase.Server(b).Addr(), &redisidem.Config{AutoPipeline: true, Observer: metrics})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = service.Close(b.Context()) }() // nothing is in flight
	for name, routes := range map[string]string{"unprotected": "defaults: {protect: false}\n", "protected": "defaults: {key: required}\n"} {
		rules, err := readRoutes(routes)
		if err != nil {
			b.Fatal(err)
		}
		g, err := New(Config{
			Service: service, Upstream: upstream, Policies: rules, Identify: httpidem.Unscoped, Metrics: metrics,
			Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) { benchmark(b, g.Handler()) })
		g.Close()
	}
}

var benchmarked atomic.Int64 // keys

func benchmark(b *testing.B, h http.Handler) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(`{"cart":"8f14e45f","amount":4200}`))
		r.Header.Set("Idempotency-Key", strconv.FormatInt(benchmarked.Add(1), 10))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.Len() != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}
