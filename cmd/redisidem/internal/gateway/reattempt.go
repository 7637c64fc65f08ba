package gateway

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// handleInterrupted wraps the proxy of a route. A request with an earlier attempt of unknown
// outcome is handled as Policy.Interrupted says. prefetch prefetches the body of a response of the
// upstream.
func (g *generation) handleInterrupted(p *Policy, prefetch func(*http.Response) error, proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := httpidem.Stage(r.Context())
		if st != nil && p.Interrupted == "refuse" {
			st.KeepUnsettled() // otherwise a retry after the retention would be a first attempt
		}
		switch {
		case st == nil, st.Attempt() == 1:
			proxy.ServeHTTP(w, r)
		case p.Interrupted == "run":
			g.runAgain(w, r, p, proxy)
		case p.Interrupted == "refuse":
			g.refuseInterrupted(w, r, p)
		default:
			g.ask(w, r, p, prefetch, proxy)
		}
	})
}

// runAgain forwards a request again, unless an earlier attempt may still be at work. The gateway of
// an attempt ends its call of the upstream MaxHold after the claim. Of an attempt without an end,
// no more than that is known.
func (g *generation) runAgain(w http.ResponseWriter, r *http.Request, p *Policy, proxy http.Handler) {
	st := httpidem.Stage(r.Context())
	began, hold := st.OpenAttempt(), g.service.Config().MaxHold
	left := began.Add(hold).Sub(st.Key().LockedAt)
	switch {
	case began.IsZero():
		proxy.ServeHTTP(w, r)
	case hold < 0: // it is never known to be over
		g.refuseInterrupted(w, r, p)
	case left > 0:
		g.refuseOpen(w, r, p, left)
	default:
		proxy.ServeHTTP(w, r)
	}
}

// refuseOpen answers that an earlier attempt may still be at work for the time that is left. This
// attempt does not count, since it sends nothing to the upstream.
func (g *generation) refuseOpen(w http.ResponseWriter, r *http.Request, p *Policy, left time.Duration) {
	requestLogOf(r.Context()).openAttempt = true
	httpidem.NothingDone(r.Context())
	p.writeProblem(w, r, httpidem.Problem{
		Type: cmp.Or(g.policyURL, documentation) + "#in-flight", Result: httpidem.ResultInFlight,
		Status: http.StatusConflict, Title: "An earlier attempt may still be running",
		Detail: "The gateway of an earlier attempt has failed, and the upstream may still be at work on the request. " +
			"Try again later, with the same key.",
		RetryAfter: min(left.Truncate(time.Second)+time.Second, maxOpenRetryAfter),
	})
}

// maxOpenRetryAfter bounds the Retry-After of a request whose earlier attempt may be at work. The
// outcome of that attempt may be known sooner.
const maxOpenRetryAfter = time.Minute

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
// was not done and cannot be at work any more.
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
			g.runAgain(w, r, p, proxy)
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
