package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// generation is what a gateway does between two reloads of its configuration. It does not change.
type generation struct {
	*Gateway
	service   *redisidem.Service
	identify  Identify
	challenge string
	proxy     *httputil.ReverseProxy
	transport transport
	timeout   time.Duration // of a client that waits for the upstream
	policyURL string
	policies  *Policies
	mux       *http.ServeMux
	handlers  []http.Handler // of the routes, and then of the defaults
	root      http.Handler
}

// Reload replaces the Upstream, the Policies, Identify, the Challenge, the PolicyURL, CORS, the
// Window of the Quota, and the Service by a view of it. All other fields of the configuration are
// ignored. Requests that have begun end under the policies that they began with. After an error,
// which is that of [New], nothing has changed.
func (g *Gateway) Reload(cfg Config) error {
	next, err := g.newGeneration(&cfg)
	if err != nil {
		return err
	}
	if g.quota != nil && cfg.Quota != nil {
		if err := g.quota.SetWindow(cfg.Quota.Window); err != nil {
			return err
		}
	}
	g.current.Swap(next).transport.CloseIdleConnections()
	return nil
}

// newGeneration returns a generation that is not in use yet.
func (g *Gateway) newGeneration(cfg *Config) (*generation, error) {
	n := &generation{
		Gateway: g, service: cfg.Service, identify: cfg.Identify, challenge: cfg.Challenge, timeout: cfg.Upstream.Timeout, policyURL: cfg.PolicyURL,
		policies: cfg.Policies, transport: cfg.Upstream.newTransport(),
	}
	if err := cfg.CORS.Validate(); err != nil {
		return nil, err
	}
	n.proxy = newProxy(cfg.Upstream, g.tracing.transport(n.transport), g.trusted, g.log)
	var err error
	if n.mux, err = n.policies.matcher(); err != nil {
		return nil, err
	}
	defaults, err := n.handler(&n.policies.Defaults) // first, so that routes do not get the blame for its values
	if err != nil {
		return nil, withinPolicy("defaults", err)
	}
	for i := range n.policies.Routes {
		h, err := n.handler(&n.policies.Routes[i].Policy)
		if err != nil {
			return nil, withinPolicy(fmt.Sprintf("routes[%d]", i), err)
		}
		n.handlers = append(n.handlers, h)
	}
	n.handlers = append(n.handlers, defaults)
	n.root = cfg.CORS.handler(http.HandlerFunc(n.serveRoute))
	return n, nil
}

// serveRoute serves a request with the policy of its route.
func (g *generation) serveRoute(w http.ResponseWriter, r *http.Request) {
	i, ok := g.policies.find(g.mux, r)
	route := g.policies.label(i)
	requestLogOf(r.Context()).route = route
	g.tracing.name(r, route)
	if i < 0 {
		i = len(g.handlers) - 1
	}
	if !g.tls.admit(w, r) {
		g.refuseCertificate(w, r, i)
		return
	}
	if hasSpace(r.URL) {
		g.policyOf(i).writeProblem(w, r, httpidem.Problem{
			Status: http.StatusBadRequest, Title: "The request target is malformed",
			Detail: "The path or the query has a space. This request was not executed. Send the space as %20.",
		})
		return
	}
	if !ok {
		g.policyOf(i).writeProblem(w, r, httpidem.Problem{
			Status: http.StatusBadRequest, Title: "The path is ambiguous",
			Detail: "Servers read the path in different ways, for which there are different rules. This request was not executed. " +
				"Send the path without escaped slashes, backslashes, semicolons, empty segments and segments of dots.",
		})
		return
	}
	g.handlers[i].ServeHTTP(w, r)
}

// policyOf returns the policy of the handler with an index.
func (g *generation) policyOf(i int) *Policy {
	if i < len(g.policies.Routes) {
		return &g.policies.Routes[i].Policy
	}
	return &g.policies.Defaults
}

// refuseCertificate answers a client whose certificate was accepted before a reload. i is the index
// of the route's handler.
func (g *generation) refuseCertificate(w http.ResponseWriter, r *http.Request, i int) {
	requestLogOf(r.Context()).result = httpidem.ResultNoScope
	g.policyOf(i).writeProblem(w, r, httpidem.Problem{
		Type: cmp.Or(g.policyURL, documentation) + "#no-scope", Result: httpidem.ResultNoScope, Status: http.StatusUnauthorized,
		Title:  "The client certificate is not accepted any more",
		Detail: "The server accepts certificates of other authorities now. This request was not executed. Connect again with another certificate.",
	})
}
