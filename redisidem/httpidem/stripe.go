package httpidem

import (
	"net/http"
	"strconv"
	"strings"
)

// The header fields that clients of [ProfileStripe] read.
const (
	// IdempotentReplayedHeader is Stripe's name of [idemheader.Replayed].
	IdempotentReplayedHeader = "Idempotent-Replayed"
	// ShouldRetryHeader is true or false: whether the client should send the request again with the
	// same key.
	ShouldRetryHeader = "Stripe-Should-Retry"
)

// stripeError is a problem in the form that Stripe's clients expect.
type stripeError struct {
	Type    string `json:"type"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	DocURL  string `json:"doc_url,omitempty"`
}

// writeStripeError writes a problem as Stripe's API would. Clients derive the class of their error
// from the status and the type.
func writeStripeError(w http.ResponseWriter, p *Problem) {
	e := stripeError{Type: stripeType(p), Code: stripeCode(p.Result), Message: p.Title + "."}
	if p.Detail != "" {
		e.Message += " " + p.Detail
	}
	if p.OriginalStatus != 0 {
		e.Message += " Its status was " + strconv.Itoa(p.OriginalStatus) + "."
	}
	if strings.HasPrefix(p.Type, "http") { // and is not about:blank
		e.DocURL = p.Type
	}
	// Without this field a client retries each 409 and 5xx, and never a 429.
	w.Header().Set(ShouldRetryHeader, strconv.FormatBool(p.RetryAfter > 0))
	writeJSON(w, "application/json", p.Status, map[string]stripeError{"error": e})
}

// stripeType returns the error type of a problem.
func stripeType(p *Problem) string {
	switch {
	case p.Result == ResultMismatch:
		return "idempotency_error"
	case p.Status >= http.StatusInternalServerError, p.Result == ResultGone:
		return "api_error"
	}
	return "invalid_request_error"
}

// stripeCode returns Stripe's own code for a result, or a code of the same form that names the
// result.
func stripeCode(r Result) string {
	switch r { //nolint:exhaustive // all others have no code of Stripe's
	case ResultInFlight, ResultSuperseded:
		return "idempotency_key_in_use"
	case ResultOverQuota:
		return "rate_limit"
	case ResultMismatch, 0: // the type says enough, or the problem is not the middleware's
		return ""
	}
	return strings.ReplaceAll(r.problemName(), "-", "_")
}
