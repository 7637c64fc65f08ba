package httpidem

import (
	"net/http"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// refuseMethod answers a request with a method that is not covered, and for which there is no other
// handler.
func (m *Middleware) refuseMethod(w http.ResponseWriter, r *http.Request) {
	m.report(r.Context(), Event{Result: ResultBypassed, Status: http.StatusMethodNotAllowed})
	for _, method := range m.cfg.Methods {
		w.Header().Add("Allow", method)
	}
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
}

// refuse answers with a problem, whose RetryAfter it sets. The caller has set the key's own field
// already. err is the error behind the problem, or nil.
func (x *keyedRequest) refuse(p *Problem, err error) { x.refuseTo(x.w, x.r, p, err) }

// refuseTo is refuse with another writer and another request than those of x.
func (x *keyedRequest) refuseTo(w http.ResponseWriter, r *http.Request, p *Problem, err error) {
	m, h := x.middleware, w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set(idemheader.Problem, p.Result.problemName())
	if m.cfg.PolicyURL != "" {
		h.Add("Link", "<"+m.cfg.PolicyURL+`>; rel="describedby"; type="text/html"`)
	}
	if p.RetryAfter = m.retryAfter(p.Result, err); p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(wholeSeconds(p.RetryAfter)))
	}
	m.report(r.Context(), x.event(p.Result, p.Status, err))
	m.cfg.WriteProblem(w, r, p)
}
