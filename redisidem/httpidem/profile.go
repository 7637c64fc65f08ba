package httpidem

import (
	"net/http"
)

// Profile is the form of problems and replays for a family of clients: see Config.Profile.
type Profile int

const (
	// ProfileDraft is that of the draft: problems have its statuses and titles, in the form of RFC
	// 9457. Replays are marked with [idemheader.Replayed], which is an addition. It is the default.
	ProfileDraft Profile = iota
	// ProfileStripe is for the client libraries of Stripe and for compatible clients. Such a client
	// treats a response as a success unless its body has an error. It reads from
	// [ShouldRetryHeader] whether to try again.
	ProfileStripe

	profiles
)

// String returns the profile in lower case.
func (f Profile) String() string {
	switch f {
	case ProfileDraft:
		return "draft"
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

// keepHeaders returns the response fields that are stored besides [DefaultKeepHeaders].
func (f Profile) keepHeaders() []string {
	if f == ProfileStripe {
		return []string{"Request-Id", "Stripe-Account", "Stripe-Version"}
	}
	return nil
}
