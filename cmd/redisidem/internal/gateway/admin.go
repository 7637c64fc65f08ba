package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/redisidem/redisidem/redisidem"
)

// Admin returns the handler for operators. /healthz is 200 while the process serves, /readyz while
// it can accept requests. /metrics is for Prometheus.
func (g *Gateway) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := g.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

// ready returns an error if the gateway should get no requests. It calls Redis and blocks for up to
// 2 s.
func (g *Gateway) ready(ctx context.Context) error {
	if g.draining.Load() {
		return errors.New("shutting down")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := g.service.Scope("redisidem/ready").Retrieve(ctx, "ready"); err != nil && !errors.Is(err, redisidem.ErrNotFound) {
		return errors.New("redis does not answer")
	}
	return nil
}

// Drain makes /readyz fail, so that load balancers send no more requests.
func (g *Gateway) Drain() { g.draining.Store(true) }
