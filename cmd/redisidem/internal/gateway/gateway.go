// Package gateway is a reverse proxy that makes retries safe for the service behind it, in any
// language.
package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Config configures a [Gateway]. All fields up to Log are required.
type Config struct {
	Service  *redisidem.Service
	Upstream *Upstream
	Routes   *Routes
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
	// Quota limits the use by one scope. Default: no limit.
	Quota httpidem.Quota
	// ReadyWithoutRedis is when the gateway is ready although Redis cannot be used: "never",
	// "after-start" (once it was usable) or "always". Default: never.
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
	identify  Identify
	metrics   *Metrics
	log       *slog.Logger
	proxy     *httputil.ReverseProxy
	transport *upstreamTransport
	timeout   time.Duration // of a client that waits for the upstream
	routes    *Routes
	mux       *http.ServeMux
	handlers  []http.Handler // of the routes, and then of the defaults
	policyURL string
	challenge string
	cors      CORS
	quota     httpidem.Quota
	readiness readiness
	tracing   tracing
}

// New returns a gateway. An error names the route or the setting that is invalid.
func New(cfg Config) (*Gateway, error) {
	g := &Gateway{
		service: cfg.Service, identify: cfg.Identify, metrics: cfg.Metrics, log: cfg.Log, routes: cfg.Routes,
		transport: cfg.Upstream.newTransport(), timeout: cfg.Upstream.Timeout, challenge: cfg.Challenge, cors: cfg.CORS,
		quota: cfg.Quota, policyURL: cfg.PolicyURL,
		tracing:   tracing{cfg.Traces},
		readiness: readiness{withoutRedis: cfg.ReadyWithoutRedis, inMemory: cfg.InMemory},
	}
	if err := g.cors.validate(); err != nil {
		return nil, err
	}
	g.proxy = newProxy(cfg.Upstream, g.tracing.transport(g.transport), cfg.Log)
	g.metrics.Watch(cfg.Service)
	var err error
	if g.mux, err = cfg.Routes.matcher(); err != nil {
		return nil, err
	}
	for i := range cfg.Routes.Routes {
		route := &cfg.Routes.Routes[i]
		h, err := g.handler(&route.Policy)
		if err != nil {
			return nil, fmt.Errorf("routes[%d] (%s): %w", i, route.Match, err)
		}
		g.handlers = append(g.handlers, h)
	}
	h, err := g.handler(&cfg.Routes.Defaults)
	if err != nil {
		return nil, fmt.Errorf("defaults: %w", err)
	}
	g.handlers = append(g.handlers, h)
	return g, nil
}

// Handler returns the handler for clients.
func (g *Gateway) Handler() http.Handler {
	return g.tracing.handler(g.logged(g.cors.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := g.routes.find(g.mux, r)
		route := g.routes.label(i)
		requestLogOf(r.Context()).route = route
		g.tracing.name(r, route)
		if i < 0 {
			i = len(g.handlers) - 1
		}
		if g.readiness.draining.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close") // so that the client's next request goes to another replica
		}
		g.handlers[i].ServeHTTP(w, r)
	}))))
}

// Close closes the idle connections to the upstream.
func (g *Gateway) Close() { g.transport.CloseIdleConnections() }
