package httpidem

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// problemBase is the beginning of problem types without Config.PolicyURL.
const problemBase = "https://github.com/redisidem/redisidem/blob/main/docs/http.md"

// Problem is a response of the middleware itself, in the form of RFC 9457. It never contains a key,
// a scope, a body or the text of an error.
type Problem struct {
	// Type is a URI that names the kind of problem: the address of the policy document with the
	// result as its fragment.
	Type string `json:"type"`
	// Title is a short description of the problem. Status is the status of the response. Detail
	// says what the client should do.
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// OriginalStatus is, with [ResultGone], the status of the response that was not kept. 0 means
	// that it is unknown.
	OriginalStatus int `json:"original_status,omitempty"`

	// Result is the result of the request. RetryAfter is when the client should try again. 0 means
	// that a retry of the same request does not help. The Retry-After field is set before
	// Config.WriteProblem is called.
	Result     Result        `json:"-"`
	RetryAfter time.Duration `json:"-"`
}

// WriteProblem writes a problem as application/problem+json, in English. It is the form of
// [ProfileDraft].
func WriteProblem(w http.ResponseWriter, _ *http.Request, p *Problem) {
	writeJSON(w, "application/problem+json", p.Status, p)
}

// writeJSON writes v as the JSON body of a problem.
func writeJSON(w http.ResponseWriter, mediaType string, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: v has only texts and numbers
		body = []byte("{}")
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Language", "en")
	// Content-Length is left to the server, since a compressor outside would make it wrong.
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}

// problem returns the problem for a result. It leaves RetryAfter to refuse.
func (m *Middleware) problem(r Result) *Problem {
	a := problemTexts[r]
	base := m.cfg.PolicyURL
	if base == "" {
		base = problemBase
	}
	title := strings.ReplaceAll(a.title, idemheader.Key, m.cfg.Key.Header)
	return &Problem{
		Type: base + "#" + r.problemName(), Title: title, Status: m.cfg.Profile.status(r), Detail: a.detail, Result: r,
	}
}
