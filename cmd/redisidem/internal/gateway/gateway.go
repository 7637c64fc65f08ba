// Package gateway is a reverse proxy that makes retries safe for the service behind it, in any
// language.
package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// leaveLasts is how long a gateway that ends gives back the places of its quota.
const leaveLasts = 2 * time.Second

// Config configures a [Gateway]. All fields up to Log are required.
type Config struct {
	Service  *redisidem.Service
	Upstream *Upstream
	Policies *Policies
	Identify Identify
	Metrics  *Metrics
	Log      *slog.Logger
	// PolicyURL is the address of the API's documentation of its keys.
	PolicyURL string
	// Challenge is the WWW-Authenticate of responses to unauthenticated requests. Default: none.
	Challenge string
	// CORS configures the pages of other origins that may call the service. Default: CORS is left
	// to the service.
	CORS CORS
	// Quota limits the use by one scope. Nil: no limit.
	Quota *redisidem.QuotaConfig
	// Spool holds large bodies in files. Default: all bodies are in memory.
	Spool *httpidem.SpoolConfig
	// TrustedProxies are the proxies whose word about a client counts. Default: none.
	TrustedProxies TrustedProxies
	// ListenerTLS is the TLS of the listener for clients. Nil means none.
	ListenerTLS *ListenerTLS
	// ReadyWithoutRedis is when the gateway is ready although Redis cannot be used: "never",
	// "after-start" (once it was usable), "by-route" (also before that, if a policy needs no Redis)
	// or "always". Default: never.
	ReadyWithoutRedis string
	// Traces makes the spans of requests and carries their W3C context to the upstream. Nil: none,
	// and header fields reach the upstream as the client sent them.
	Traces trace.TracerProvider
	// InMemory is whether the keys are kept in this process, which /readyz then says.
	InMemory bool
}

// Gateway is the reverse proxy. It is safe for concurrent use.
type Gateway struct {
	service   *redisidem.Service
	metrics   *Metrics
	log       *slog.Logger
	quota     *redisidem.Quota // nil without a limit
	spool     *httpidem.Spool  // nil if all bodies are in memory
	trusted   TrustedProxies
	tls       *ListenerTLS
	readiness readiness
	tracing   tracing
	current   atomic.Pointer[generation]
}

// New returns a gateway. An error names the route or the setting that is invalid.
func New(cfg Config) (*Gateway, error) {
	g := &Gateway{
		service: cfg.Service, metrics: cfg.Metrics, log: cfg.Log, trusted: cfg.TrustedProxies,
		tls: cfg.ListenerTLS, tracing: tracing{cfg.Traces},
		readiness: readiness{withoutRedis: cfg.ReadyWithoutRedis, inMemory: cfg.InMemory},
	}
	g.metrics.Watch(cfg.Service)
	if cfg.Spool != nil {
		if err := g.openSpool(cfg.Spool); err != nil {
			return nil, err
		}
	}
	if cfg.Quota != nil {
		var err error
		if g.quota, err = redisidem.NewQuota(cfg.Service, *cfg.Quota); err != nil {
			return nil, err
		}
		g.metrics.WatchQuota(g.quota)
	}
	first, err := g.newGeneration(&cfg)
	if err != nil {
		g.LeaveQuota(context.Background())
		return nil, err
	}
	g.current.Store(first)
	return g, nil
}

// Handler returns the handler for clients.
func (g *Gateway) Handler() http.Handler {
	return g.tracing.handler(g.logged(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.current.Load().root.ServeHTTP(w, r) })))
}

// LeaveQuota gives back the shares of the gateway in the quotas of scopes. Call it when the
// requests have ended, and before the service is closed. It blocks for 2 s at most, whether ctx has
// ended or not.
func (g *Gateway) LeaveQuota(ctx context.Context) {
	if g.quota == nil {
		return
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLasts)
	defer cancel()
	if err := g.quota.Close(leaving); err != nil {
		g.log.Warn("places in the quotas of scopes were not given back: they lapse", "error", err)
	}
}

// Close closes the idle connections to the upstream.
func (g *Gateway) Close() { g.current.Load().transport.CloseIdleConnections() }
