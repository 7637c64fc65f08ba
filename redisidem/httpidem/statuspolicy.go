package httpidem

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// Disposition is what the middleware does with the response of a handler.
type Disposition int

const (
	// DispositionKeep stores the response. Retries get it.
	DispositionKeep Disposition = iota + 1
	// DispositionRelease does not store it. The next request with the key runs the handler again.
	DispositionRelease
	// DispositionUnknown is DispositionRelease for a response that leaves the outcome unknown, as
	// when the upstream of a gateway broke off. The next handler can see from Stage.Attempt that it
	// is not the first.
	DispositionUnknown
)

// String returns the disposition in lower case.
func (d Disposition) String() string {
	switch d {
	case DispositionKeep:
		return "keep"
	case DispositionRelease:
		return "release"
	case DispositionUnknown:
		return "unknown"
	default:
		return "invalid"
	}
}

// StatusPolicy decides by its status what happens to a response. The status of a gRPC response is
// its [EquivalentStatus]. A policy must not block, and is called concurrently. A response that is
// not final is never stored, whatever the policy returns: see [StatusPolicy.Of].
type StatusPolicy func(status int) Disposition

// Of returns what happens to a response with the given status and header. attempt is the number of
// the attempt, from 1. The result is that of the policy, except that a response that asks for
// another try is not kept. Such a response is DispositionUnknown with 502, 503 and 504, and
// DispositionRelease otherwise:
//
//   - 423 (Locked) and 425 (Too Early).
//   - 4xx and 5xx with a Retry-After, or with Stripe-Should-Retry: true. A 2xx or 3xx with these
//     fields asks for another request (RFC 9110, section 10.2.3), and is kept.
//   - 409 (Conflict) on a later attempt than the first. The conflict may be with the earlier
//     attempt, which may still be running.
//   - A problem of this package or of the gateway: see [idemheader.Problem].
func (p StatusPolicy) Of(status int, header http.Header, attempt int) Disposition {
	d := p(status)
	if d == DispositionRelease || d == DispositionUnknown || isFinal(status, header, attempt) {
		return d
	}
	if isUnclear(status) {
		return DispositionUnknown
	}
	return DispositionRelease
}

func isFinal(status int, header http.Header, attempt int) bool {
	switch {
	case neverFinal(status), status == http.StatusConflict && attempt > 1, header[idemheader.Problem] != nil:
		return false
	}
	return status < 400 || !asksForRetry(header)
}

// asksForRetry reports whether a header has a Retry-After, or Stripe's field for it. A handler may
// have written the names in any case.
func asksForRetry(h http.Header) bool {
	for name, values := range h {
		if strings.EqualFold(name, "Retry-After") || strings.EqualFold(name, ShouldRetryHeader) && slices.Contains(values, "true") {
			return true
		}
	}
	return false
}

func neverFinal(status int) bool { return status == http.StatusLocked || status == http.StatusTooEarly }

// isUnclear reports whether a status leaves open if the work was done.
func isUnclear(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// KeepFinal is the default of ResponseConfig.Status. It keeps 2xx, 3xx and most of 4xx. It releases
// 401, 403, 408, 423, 425 and 429, which depend on the moment and not on the request. It also
// releases 5xx, so that the client may try again. 502, 503 and 504 are DispositionUnknown.
func KeepFinal(status int) Disposition {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly,
		http.StatusTooManyRequests:
		return DispositionRelease
	}
	switch {
	case status >= 200 && status < 500:
		return DispositionKeep
	case isUnclear(status):
		return DispositionUnknown
	}
	return DispositionRelease
}

// KeepAll is a ResponseConfig.Status that keeps every final response. Once the handler has ended
// with one, or has panicked, it never runs again for the key. It runs again if its process died
// before the response was stored.
func KeepAll(int) Disposition { return DispositionKeep }

// ParseStatusPolicy returns the policy that the words describe: "final" for [KeepFinal], "all" for
// [KeepAll], or any number of statuses ("404") and classes ("2xx"). With statuses, only their
// responses are kept. A retry of any other response runs the handler again, also after a 2xx. 502,
// 503 and 504 are DispositionUnknown unless they are named.
//
// It returns a [*redisidem.InvalidError] for any other word, for a status that is never kept (1xx,
// 423 and 425), and if no 2xx is named.
func ParseStatusPolicy(words ...string) (StatusPolicy, error) {
	refuse := func(format string, args ...any) (StatusPolicy, error) {
		return nil, invalid("StatusPolicy", format, args...)
	}
	if len(words) == 0 {
		return refuse("names no status")
	}
	var kept [600]bool
	succeeds := false
	for _, word := range words {
		switch {
		case word == "final" && len(words) == 1:
			return KeepFinal, nil
		case word == "all" && len(words) == 1:
			return KeepAll, nil
		case word == "final" || word == "all":
			return refuse("has other words beside %s, but %s stands alone", word, word)
		}
		first, last, ok := statuses(word)
		switch {
		case !ok:
			return refuse("has %q, which is not a status or a class of statuses such as 404 or 2xx", word)
		case first < 200:
			return refuse("has %s, but informational answers are never kept", word)
		case first == last && neverFinal(first):
			return refuse("has %s, but 423 and 425 are never kept", word)
		}
		for status := first; status <= last; status++ {
			kept[status] = true
		}
		succeeds = succeeds || first < 300
	}
	if !succeeds {
		return refuse("names no 2xx status, so that a request that succeeded would run again on its retry")
	}
	return func(status int) Disposition {
		switch {
		case status >= 0 && status < len(kept) && kept[status]:
			return DispositionKeep
		case isUnclear(status):
			return DispositionUnknown
		}
		return DispositionRelease
	}, nil
}

// statuses returns the first and the last status of a word such as "404" or "2xx".
func statuses(word string) (first, last int, ok bool) {
	if len(word) != 3 || word[0] < '1' || word[0] > '5' {
		return 0, 0, false
	}
	if strings.EqualFold(word[1:], "xx") {
		first = 100 * int(word[0]-'0')
		return first, first + 99, true
	}
	status, err := strconv.Atoi(word)
	return status, status, err == nil
}
