package gateway

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// handleInterrupted wraps the proxy of a route. A request with an earlier attempt of unknown
// outcome is handled as Policy.Interrupted says. prefetch prefetches the body of a response of the
// upstream.
func (g *Gateway) handleInterrupted(p *Policy, prefetch func(*http.Response) error, proxy http.Handler) http.Handler {
	if p.Interrupted == "run" {
		return proxy
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := httpidem.Stage(r.Context())
		if st == nil || st.Attempt() == 1 {
			proxy.ServeHTTP(w, r)
			return
		}
		if p.Interrupted == "refuse" {
			p.writeOutcomeUnknown(w, r)
			return
		}
		g.ask(w, r, p, prefetch, proxy)
	})
}

// writeOutcomeUnknown answers that the outcome of a request is unknown. This attempt does not
// count, since it sends nothing to the upstream. The unknown outcome is that of an earlier attempt.
func (p *Policy) writeOutcomeUnknown(w http.ResponseWriter, r *http.Request) {
	httpidem.NothingDone(r.Context())
	p.writeProblem(w, r, httpidem.Problem{
		Status: http.StatusServiceUnavailable, Title: "The outcome of the request is unknown",
		Detail: "The upstream did not answer an earlier attempt. An operator must find out what that attempt did before the request can be repeated.",
	})
}

// ask asks the upstream for the outcome of an earlier attempt, and forwards the request again if it
// was not done.
func (g *Gateway) ask(w http.ResponseWriter, r *http.Request, p *Policy, prefetch func(*http.Response) error, proxy http.Handler) {
	where, err := checkURL(p.Ask, httpidem.Stage(r.Context()).Key().Value)
	if err != nil { // the key would change the path of the check request
		p.writeOutcomeUnknown(w, r)
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
		p.writeOutcomeUnknown(w, r)
	}
	check.ServeHTTP(w, newCheckRequest(r, where))
}

// Results of a check request that are not a response for the client.
var (
	errNotDone        = errors.New("the upstream reported that the work was not done")
	errOutcomeUnknown = errors.New("the upstream did not report the outcome")
)
