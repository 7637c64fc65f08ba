package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// Profile is the form in which a family of clients expects problems and replays. See
// Config.Profile.
type Profile int

const (
	// ProfileStandard writes problems as RFC 9457 describes them, and marks replays with
	// [idemheader.Replayed]. It is the default.
	ProfileStandard Profile = iota
	// ProfileStripe is for Stripe's own client libraries, and for others that talk like them. Such
	// a client takes an answer for a success unless its body has an error, and asks the field
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

// status is that of the problem that a result makes.
func (f Profile) status(r Result) int {
	if f == ProfileStripe {
		switch r { //nolint:exhaustive // all others are as they are
		case ResultMismatch, ResultBodyTooLarge:
			return http.StatusBadRequest
		}
	}
	return answers[r].status
}

// The fields that mark replays.
var (
	standardMarks = []string{idemheader.Replayed}
	stripeMarks   = []string{idemheader.Replayed, IdempotentReplayedHeader}
)

// marks returns the fields that have the value true on each replay, and are on no other answer.
func (f Profile) marks() []string {
	if f == ProfileStripe {
		return stripeMarks
	}
	return standardMarks
}

// keepHeaders returns the fields of answers that are stored besides [DefaultKeepHeaders].
func (f Profile) keepHeaders() []string {
	if f == ProfileStripe {
		return []string{"Request-Id", "Stripe-Account", "Stripe-Version"}
	}
	return nil
}

// markReplay marks an answer as a replay.
func (f Profile) markReplay(h http.Header) {
	for _, name := range f.marks() {
		h.Set(name, "true")
	}
	if f == ProfileStripe {
		h.Set(ShouldRetryHeader, "false") // it stays what it is
	}
}
