// Package gateway is a reverse proxy that makes retries safe for the service behind it, in any
// language.
package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

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
}

// Gateway is the reverse proxy. It is safe for concurrent use.
type Gateway struct {
	service   *redisidem.Service
	identify  Identify
	metrics   *Metrics
	log       *slog.Logger
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	routes    *Routes
	mux       *http.ServeMux
	handlers  []http.Handler // of the routes, and then of the defaults
	challenge string
	cors      CORS
	quota     httpidem.Quota
	draining  atomic.Bool
}

// New returns a gateway. An error names the route or the setting that is invalid.
func New(cfg Config) (*Gateway, error) {
	g := &Gateway{
		service: cfg.Service, identify: cfg.Identify, metrics: cfg.Metrics, log: cfg.Log, routes: cfg.Routes,
		transport: cfg.Upstream.newTransport(), challenge: cfg.Challenge, cors: cfg.CORS,
		quota: cfg.Quota,
	}
	if err := g.cors.validate(); err != nil {
		return nil, err
	}
	g.proxy = newProxy(cfg.Upstream, g.transport, cfg.Log)
	var err error
	if g.mux, err = cfg.Routes.matcher(); err != nil {
		return nil, err
	}
	for i := range cfg.Routes.Routes {
		route := &cfg.Routes.Routes[i]
		h, err := g.handler(&route.Policy, cfg.PolicyURL)
		if err != nil {
			return nil, fmt.Errorf("routes[%d] (%s): %w", i, route.Match, err)
		}
		g.handlers = append(g.handlers, h)
	}
	h, err := g.handler(&cfg.Routes.Defaults, cfg.PolicyURL)
	if err != nil {
		return nil, fmt.Errorf("defaults: %w", err)
	}
	g.handlers = append(g.handlers, h)
	return g, nil
}

// handler returns the handler of one policy.
func (g *Gateway) handler(p *Policy, document string) (http.Handler, error) {
	if !*p.Protect {
		return g.proxyOf(p), nil
	}
	keep, err := httpidem.ParseStatusPolicy(p.Keep...)
	if err != nil {
		return nil, fmt.Errorf("keep: %w", err)
	}
	cfg := &httpidem.Config{
		Methods: p.Methods, Key: httpidem.KeyConfig{Optional: p.Key == "optional", Strict: p.Syntax == "strict"}, MaxBodyBytes: p.MaxBody,
		Response: httpidem.ResponseConfig{MaxBytes: p.MaxResponse, KeepHeaders: p.Headers, KeepFlushed: !*p.Stream, Status: keep}, Wait: -1,
		FailOpen: p.WithoutRedis == "pass", PublishRetention: *p.PublishRetention, PolicyURL: document,
		Profile: p.profile(), WriteProblem: g.problemWriter(p), Observer: g.observe, Quota: g.quota,
	}
	cfg.Fingerprint.AnyHost = *p.AnyHost
	switch {
	case *p.KeyWindow > 0:
		cfg.Key.Check = httpidem.KeysWithin(*p.KeyWindow, *p.KeyWindow)
	case p.Keys == "uuid":
		cfg.Key.Check = httpidem.UUIDKeys
	}
	if p.Authorize != "none" {
		where, err := target(p.Authorize, "")
		if err != nil {
			return nil, err
		}
		cfg.Authorize = g.authorize(where)
	}
	if *p.Wait > 0 {
		cfg.Wait = *p.Wait
	}
	if len(p.Fingerprint) > 0 {
		cfg.Fingerprint.Func = httpidem.JSONFields(p.Fingerprint...)
	}
	m, err := httpidem.New(g.service, g.scope, cfg)
	if err != nil {
		return nil, err
	}
	begin := prefetchBody(m.Policy().MaxResponseBytes, *p.Stream)
	return m.Handler(g.handleInterrupted(p, begin, g.protectedProxy(p, keep, begin))), nil
}

// lastStatus is the highest valid status (RFC 9110, section 15).
const lastStatus = 599

var errNoStatus = errors.New("the upstream's status is not a valid one")

// protectedProxy returns the proxy for the protected requests of a policy. keep decides which
// responses are stored.
func (g *Gateway) protectedProxy(p *Policy, keep httpidem.StatusPolicy, begin func(*http.Response) error) http.Handler {
	proxy := g.proxyOf(p)
	proxy.ModifyResponse = func(answer *http.Response) error {
		if answer.StatusCode > lastStatus {
			return errNoStatus
		}
		if answer.StatusCode != http.StatusSwitchingProtocols { // its body is the connection
			if err := begin(answer); err != nil {
				return err
			}
			answer.Body = &trackedBody{answer.Body, answer.Request.Context()}
		}
		// A 4xx means that the upstream has refused the request. The outcome of this attempt is
		// known, so it does not count.
		ctx := answer.Request.Context()
		if st := httpidem.Stage(ctx); st != nil && answer.StatusCode/100 == 4 &&
			keep.Of(answer.StatusCode, answer.Header, st.Attempt()) != httpidem.DispositionKeep {
			httpidem.NothingDone(ctx)
		}
		return nil
	}
	return proxy
}

// prefetchBody returns a function that reads the part of a response body that the middleware holds
// back. If the body breaks off there, the error comes before anything was sent, and the gateway can
// still send a problem. A response that is streamed is not read.
func prefetchBody(limit int, stream bool) func(*http.Response) error {
	return func(answer *http.Response) error {
		if httpidem.Stage(answer.Request.Context()) == nil {
			return nil // the response is not held back
		}
		if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); stream &&
			(answer.ContentLength < 0 || kind == "text/event-stream") {
			return nil // ReverseProxy flushes these
		}
		head, err := io.ReadAll(io.LimitReader(answer.Body, int64(limit)+1))
		if err != nil {
			return err
		}
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), answer.Body), answer.Body}
		return nil
	}
}

// trackedBody is the body of an upstream response. If it breaks off, the outcome of the request is
// unknown.
type trackedBody struct {
	io.ReadCloser
	ctx context.Context // of the request
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		httpidem.OutcomeUnknown(b.ctx)
	}
	return n, err
}

// scope is the middleware's scope function.
func (g *Gateway) scope(r *http.Request) (string, error) {
	scope, err := g.identify(r)
	requestLogOf(r.Context()).scope = scope
	return scope, err
}

// observe records the result of a request, and logs failures of the protection.
func (g *Gateway) observe(ctx context.Context, e httpidem.Event) {
	requestLogOf(ctx).result = e.Result
	if e.Result == httpidem.ResultNotAllowed && e.Status == http.StatusServiceUnavailable {
		g.log.LogAttrs(ctx, slog.LevelWarn, "upstream did not answer whether a caller is authorized", slog.Any("error", e.Err))
	}
	switch e.Result { //nolint:exhaustive // all others are in order
	case httpidem.ResultOpened:
		g.metrics.open.Inc()
		g.log.LogAttrs(ctx, slog.LevelError, "request sent on without protection", slog.Any("error", e.Err))
	case httpidem.ResultUnavailable, httpidem.ResultUnacknowledged, httpidem.ResultSuperseded, httpidem.ResultFailed:
		g.log.LogAttrs(ctx, slog.LevelError, "request not protected as it should be", slog.String("result", e.Result.String()),
			slog.Any("error", e.Err))
	}
}

// Handler returns the handler for clients.
func (g *Gateway) Handler() http.Handler {
	return g.logged(g.cors.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := g.routes.find(g.mux, r)
		if i < 0 {
			i = len(g.handlers) - 1
		}
		g.handlers[i].ServeHTTP(w, r)
	})))
}

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

// Close closes the idle connections to the upstream.
func (g *Gateway) Close() { g.transport.CloseIdleConnections() }
