package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// What asking the upstream can come to besides an answer.
var (
	errNotDone        = errors.New("the upstream has not done it")
	errOutcomeUnknown = errors.New("the upstream did not report the outcome")
)

// writeProblem writes an answer of the gateway's own, in the form of the route. With a RetryAfter
// the client may try again.
func (p *Policy) writeProblem(w http.ResponseWriter, r *http.Request, problem httpidem.Problem) {
	problem.Type = "about:blank"
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(idemheader.Problem, "upstream")
	if problem.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(problem.RetryAfter.Seconds())))
	}
	p.profile().WriteProblem(w, r, &problem)
}

// problemWriter writes the middleware's answers. Who does not prove whose a request is, is asked
// to.
func (g *Gateway) problemWriter(p *Policy) func(http.ResponseWriter, *http.Request, *httpidem.Problem) {
	return func(w http.ResponseWriter, r *http.Request, problem *httpidem.Problem) {
		switch {
		case problem.Result == httpidem.ResultNoScope:
			problem.Status = http.StatusUnauthorized
			if g.challenge != "" {
				w.Header().Set("WWW-Authenticate", g.challenge)
			}
		case problem.Result == httpidem.ResultNotAllowed && problem.Status == http.StatusUnauthorized:
			w.Header()["Www-Authenticate"] = requestLogOf(r.Context()).challenges
		case problem.Result == httpidem.ResultNotAllowed && problem.Status == http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "1")
			problem.RetryAfter = time.Second
			problem.Title, problem.Detail = "The caller's permission could not be checked", "The request was not executed. Try again later."
		}
		p.profile().WriteProblem(w, r, problem)
	}
}
