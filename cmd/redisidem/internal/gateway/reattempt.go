package gateway

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// handleInterrupted wraps the proxy of a route. A request with an earlier attempt of unknown
// outcome is handled as Policy.Interrupted says. prefetch prefetches the body of a response of the
// upstream.
func (g *generation) handleInterrupted(p *Policy, prefetch func(*http.Response) error, proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := httpidem.Stage(r.Context())
		switch {
		case st == nil, st.Attempt() == 1, p.Interrupted == "run":
			proxy.ServeHTTP(w, r)
		case p.Interrupted == "refuse":
			g.refuseInterrupted(w, r, p)
		default:
			g.ask(w, r, p, prefetch, proxy)
		}
	})
}

// refuseInterrupted answers that the outcome of a request is unknown. This attempt does not count,
// since it sends nothing to the upstream. The unknown outcome is that of an earlier attempt.
func (g *generation) refuseInterrupted(w http.ResponseWriter, r *http.Request, p *Policy) {
	g.metrics.interrupted.Inc()
	requestLogOf(r.Context()).interrupted = true
	g.log.LogAttrs(r.Context(), slog.LevelWarn, "request refused: the outcome of an earlier attempt is unknown",
		slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()),
		slog.String("key", httpidem.Stage(r.Context()).Key().ID()), slog.String("settle", howToSettle))
	httpidem.NothingDone(r.Context())
	// Problem.RetryAfter stays 0: clients must not repeat the request by themselves.
	w.Header().Set("Retry-After", "60")
	p.writeProblem(w, r, httpidem.Problem{
		Type: cmp.Or(g.policyURL, documentation) + "#outcome-unknown", Result: httpidem.ResultOutcomeUnknown,
		Status: http.StatusServiceUnavailable, Title: "The outcome of the request is unknown",
		Detail: "An earlier attempt did not end with an answer that could be kept, and may have done the work. The request was not repeated. " +
			"An operator must find out what happened. Then the same key gets its answer. Do not send the request with another key.",
	})
}

// documentation describes the problems of a gateway without a policy URL.
const documentation = "https://github.com/redisidem/redisidem/blob/main/docs/http.md"

// howToSettle names for operators what settles a request whose outcome is unknown.
const howToSettle = "redisidem keys resolve if the work was done, redisidem keys delete if it was not: see Unknown outcomes in cmd/redisidem/README.md"

// ask asks the upstream for the outcome of an earlier attempt, and forwards the request again if it
// was not done.
func (g *generation) ask(w http.ResponseWriter, r *http.Request, p *Policy, prefetch func(*http.Response) error, proxy http.Handler) {
	where, err := checkURL(p.Ask, strings.TrimPrefix(httpidem.Stage(r.Context()).Key().Value, p.KeyPrefix))
	if err != nil { // the key would change the path of the check request
		g.refuseInterrupted(w, r, p)
		return
	}
	check := *g.proxy
	check.ModifyResponse = func(answer *http.Response) error {
		switch {
		case answer.StatusCode == http.StatusNotFound:
			return errNotDone
		case answer.StatusCode < 200 || answer.StatusCode > 299:
			return errOutcomeUnknown
		}
		return prefetch(answer)
	}
	check.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		if err == errNotDone { //nolint:errorlint // it comes as it was returned
			proxy.ServeHTTP(w, r)
			return
		}
		g.log.LogAttrs(r.Context(), slog.LevelWarn, "upstream did not report the outcome of a request", slog.String("error", errorKind(err)))
		g.refuseInterrupted(w, r, p)
	}
	check.ServeHTTP(w, newCheckRequest(r, where))
}

// Results of a check request that are not a response for the client.
var (
	errNotDone        = errors.New("the upstream reported that the work was not done")
	errOutcomeUnknown = errors.New("the upstream did not report the outcome")
)
