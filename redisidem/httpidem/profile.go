package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// Profile is the form of problems and replays for a family of clients: see Config.Profile.
type Profile int

const (
	// ProfileStandard writes problems in the form of RFC 9457, and marks replays with
	// [idemheader.Replayed]. It is the default.
	ProfileStandard Profile = iota
	// ProfileStripe is for the client libraries of Stripe and for compatible clients. Such a client
	// treats a response as a success unless its body has an error. It reads from
	// [ShouldRetryHeader] whether to try again.
	ProfileStripe

	profiles
)

// String returns the profile in lower case.
func (f Profile) String() string {
	switch f {
	case ProfileStandard:
		return "standard"
	case ProfileStripe:
		return "stripe"
	default:
		return "invalid"
	}
}

// WriteProblem writes a problem in the profile's form. It is the default of Config.WriteProblem.
func (f Profile) WriteProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	if f == ProfileStripe {
		writeStripeError(w, p)
		return
	}
	WriteProblem(w, r, p)
}

// status returns the status of the problem for a result.
func (f Profile) status(r Result) int {
	if f == ProfileStripe {
		switch r { //nolint:exhaustive // all others are as they are
		case ResultMismatch, ResultBodyTooLarge:
			return http.StatusBadRequest
		}
	}
	return problemTexts[r].status
}

// The fields that mark a response as a replay.
var (
	standardMarks = []string{idemheader.Replayed}
	stripeMarks   = []string{idemheader.Replayed, IdempotentReplayedHeader}
)

// marks returns the fields that are true on each replay, and absent from every other response.
func (f Profile) marks() []string {
	if f == ProfileStripe {
		return stripeMarks
	}
	return standardMarks
}

// keepHeaders returns the response fields that are stored besides [DefaultKeepHeaders].
func (f Profile) keepHeaders() []string {
	if f == ProfileStripe {
		return []string{"Request-Id", "Stripe-Account", "Stripe-Version"}
	}
	return nil
}

// markReplay marks a response as a replay.
func (f Profile) markReplay(h http.Header) {
	for _, name := range f.marks() {
		h.Set(name, "true")
	}
	if f == ProfileStripe {
		h.Set(ShouldRetryHeader, "false") // a stored response never changes
	}
}
