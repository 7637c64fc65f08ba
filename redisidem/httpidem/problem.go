package httpidem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
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
// [ProfileStandard].
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

// answer is the part of a problem that depends only on the result.
type answer struct {
	status        int
	title, detail string
}

var answers = map[Result]answer{
	ResultMissing: {
		http.StatusBadRequest, "Idempotency-Key is missing",
		"This operation requires an idempotency key. Send a fresh one with each new request, and the same one with its retries.",
	},
	ResultMalformed: {
		http.StatusBadRequest, "Idempotency-Key is malformed", "Correct the header field.",
	},
	ResultKeyRefused: {
		http.StatusBadRequest, "Idempotency-Key is not acceptable", "Send a key in the form that this API asks for.",
	},
	ResultKeyOutOfWindow: {
		http.StatusBadRequest, "Idempotency-Key is outside its time window",
		"The time in the key is too long ago, or in the future. Send a key that was made with the request.",
	},
	ResultNoScope: {
		http.StatusForbidden, "The caller is not known", "The caller could not be identified.",
	},
	ResultNotAllowed: {
		http.StatusForbidden, "The caller may not do this", "The request was refused before its idempotency key was looked at.",
	},
	ResultOverQuota: {
		http.StatusTooManyRequests, "Too many requests with an Idempotency-Key",
		"The caller has used up a quota. The request was not executed. Try again later, with the same key.",
	},
	ResultBodyTooLarge: {
		http.StatusRequestEntityTooLarge, "The request's body is too large",
		"Requests with an idempotency key are limited in size. Send a smaller body.",
	},
	ResultBodyUnreadable: {
		http.StatusBadRequest, "The request's body cannot be read", "It ended early, or it is not what its header fields say.",
	},
	ResultMismatch: {
		http.StatusUnprocessableEntity, "Idempotency-Key is already used",
		"The key was first used with another request. Send a fresh key with each new request.",
	},
	ResultInFlight: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"An earlier request with this key is still being worked on. Try again later, with the same key.",
	},
	ResultUnfinished: {
		http.StatusServiceUnavailable, "The request is not finished",
		"A part of the work could not be done now. Try again later, with the same key: what was done is not done again.",
	},
	ResultSuperseded: {
		http.StatusConflict, "A request is outstanding for this Idempotency-Key",
		"Another server took this request over. Try again later, with the same key, to get its answer.",
	},
	ResultGone: {
		http.StatusGone, "The answer to this request was not kept",
		"The request with this key was executed, and its answer cannot be repeated. Do not send it again with another key.",
	},
	ResultUnavailable: {
		http.StatusServiceUnavailable, "Idempotency keys are unavailable",
		"The request was not executed. Try again later, with the same key.",
	},
	ResultUnacknowledged: {
		http.StatusServiceUnavailable, "The outcome of this request is not known yet",
		"The request was executed, and its answer may not be stored yet. Try again later, with the same key.",
	},
	ResultFailed: {
		http.StatusInternalServerError, "The idempotency key cannot be used",
		"The request was not executed. Repeating it will not help before the server's operators have acted.",
	},
}

// problem returns the problem for a result.
func (m *Middleware) problem(r Result) *Problem {
	a := answers[r]
	base := m.cfg.PolicyURL
	if base == "" {
		base = problemBase
	}
	title := strings.ReplaceAll(a.title, idemheader.Key, m.cfg.Key.Header)
	p := &Problem{
		Type: base + "#" + r.problemName(), Title: title, Status: m.cfg.Profile.status(r), Detail: a.detail, Result: r,
	}
	switch r {
	case ResultUnavailable, ResultSuperseded:
		p.RetryAfter = time.Second
	case ResultUnacknowledged:
		p.RetryAfter = min(m.cfg.MaxRetryAfter, m.lease)
	default: // no retry, or the caller sets it
	}
	return p
}

// problemName returns the name of a result in problems. Clients depend on it, so it stays the same
// when a result is renamed. Results that differ only for operators share a name.
func (r Result) problemName() string {
	switch r { //nolint:exhaustive // all others have one name
	case ResultSuperseded:
		return ResultInFlight.String()
	case ResultUnacknowledged:
		return "uncommitted"
	}
	return r.String()
}

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
