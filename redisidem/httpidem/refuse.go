package httpidem

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// refuse answers with a problem. The caller has set the key's own field already.
func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, p *Problem, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set(idemheader.Problem, p.Result.problemName())
	if m.cfg.PolicyURL != "" {
		h.Add("Link", "<"+m.cfg.PolicyURL+`>; rel="describedby"; type="text/html"`)
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(wholeSeconds(p.RetryAfter)))
	}
	m.observe(r.Context(), p.Result, p.Status, err)
	m.cfg.WriteProblem(w, r, p)
}

// wholeSeconds rounds up, since a client that retries too early is refused again.
func wholeSeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
