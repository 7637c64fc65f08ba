package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// writeProblem writes a problem of the gateway, in the form of the route. A problem without a type
// says that the upstream failed. A RetryAfter asks the client to try again.
func (p *Policy) writeProblem(w http.ResponseWriter, r *http.Request, problem httpidem.Problem) {
	name := "upstream"
	if problem.Type == "" {
		problem.Type = "about:blank"
	} else {
		_, name, _ = strings.Cut(problem.Type, "#")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(idemheader.Problem, name)
	if problem.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(problem.RetryAfter.Seconds())))
	}
	p.profile().WriteProblem(w, r, &problem)
}

// problemWriter returns a Config.WriteProblem for a policy. It answers unauthenticated callers with
// 401 and a challenge.
func (g *generation) problemWriter(p *Policy) func(http.ResponseWriter, *http.Request, *httpidem.Problem) {
	return func(w http.ResponseWriter, r *http.Request, problem *httpidem.Problem) {
		switch {
		case problem.Result == httpidem.ResultNoScope:
			problem.Status = http.StatusUnauthorized
			if requestLogOf(r.Context()).untrustedPeer {
				problem.Detail = "Only a trusted proxy may name the caller, and this request did not come from one. It was not executed. Send it to the proxy."
			}
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
