package caddyidem

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// The values of Handler.Interrupted.
const (
	interruptedRefuse = "refuse"
	interruptedRun    = "run"
)

// exchange is one request that passes through the handler.
type exchange struct {
	handler *Handler
	next    caddyhttp.Handler
	err     error // of the handlers behind this one, for those in front
}

// ServeHTTP runs the handlers behind this one.
func (x *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if st := httpidem.Stage(ctx); st != nil && st.Attempt() > 1 && x.handler.Interrupted != interruptedRun {
		x.refuse(w, r)
		return
	}
	x.err = x.next.ServeHTTP(w, r)
	if x.err == nil {
		return
	}
	httpidem.AnsweredOutside(ctx) // Caddy writes the response to the error
	if nothingBegun(x.err) {
		httpidem.NothingDone(ctx)
	}
}

// nothingBegun reports whether an error means that no handler has begun work.
func nothingBegun(err error) bool {
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return true
	}
	// 499 is reverse_proxy's status for a client that left. The upstream may have the request.
	refusal, ok := errors.AsType[caddyhttp.HandlerError](err)
	return ok && refusal.StatusCode >= 400 && refusal.StatusCode < 499
}

// documentation describes the problems of a handler without a policy URL.
const documentation = "https://github.com/redisidem/redisidem/blob/main/docs/http.md"

// refuse answers that the outcome of an earlier attempt is unknown. It runs no handler, so this
// attempt does not count.
func (x *exchange) refuse(w http.ResponseWriter, r *http.Request) {
	h := x.handler
	h.log.Warn("request refused: the outcome of an earlier attempt is unknown",
		zap.String("method", r.Method), zap.String("path", r.URL.EscapedPath()),
		zap.String("key", httpidem.Stage(r.Context()).Key().ID()),
		zap.String("settle", "redisidem keys resolve if the work was done, redisidem keys delete if it was not"))
	httpidem.NothingDone(r.Context())
	policy := h.PolicyURL
	if policy == "" {
		policy = documentation
	}
	// No retry of the client's own helps, so that only the field says when to try again.
	w.Header().Set("Retry-After", "60")
	h.profile().WriteProblem(w, r, &httpidem.Problem{
		Type: policy + "#outcome-unknown", Result: httpidem.ResultOutcomeUnknown,
		Status: http.StatusServiceUnavailable, Title: "The outcome of the request is unknown",
		Detail: "An earlier attempt broke off, and may have done the work. The request was not repeated. " +
			"An operator must find out what happened. Then the same key gets its answer. Do not send the request with another key.",
	})
}
