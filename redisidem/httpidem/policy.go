package httpidem

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// Disposition is what happens to an answer of the handler's.
type Disposition int

const (
	// DispositionKeep stores the answer: retries get it.
	DispositionKeep Disposition = iota + 1
	// DispositionRelease does not store it: the next request with the key runs the handler again.
	DispositionRelease
	// DispositionUnknown is DispositionRelease for an answer that does not tell whether the work
	// was done, as when a gateway's upstream broke off. The handler of the next request sees from
	// Stage.Attempt that it is not the first.
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

// StatusPolicy decides by its status what happens to an answer. It must not block, and is called
// concurrently. Whatever it returns, an answer that is not final is not stored: see
// [StatusPolicy.Of].
type StatusPolicy func(status int) Disposition

// Of returns what happens to an answer with that status and header, which an attempt (counted from
// 1) came to. It is what the policy returns, but an answer that asks for another try is released
// and not kept:
//
//   - 423 (Locked) and 425 (Too Early);
//   - 4xx and 5xx with a Retry-After, or with Stripe-Should-Retry: true. A 2xx with that field has
//     done the work, and asks for another request; so does a 3xx (RFC 9110, section 10.2.3);
//   - a 409 (Conflict) on an attempt after the first one, since the conflict may be with the
//     earlier attempt, which is still at work;
//   - a problem of this package's own, or of a gateway's: see [idemheader.Problem].
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

// asksForRetry reports whether a header has a Retry-After, or Stripe's field for it, in whatever
// case a handler has written the name.
func asksForRetry(h http.Header) bool {
	for name, values := range h {
		if strings.EqualFold(name, "Retry-After") || strings.EqualFold(name, ShouldRetryHeader) && slices.Contains(values, "true") {
			return true
		}
	}
	return false
}

func neverFinal(status int) bool { return status == http.StatusLocked || status == http.StatusTooEarly }

// isUnclear reports whether a status does not say if the work was done.
func isUnclear(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// KeepFinal is the default of ResponseConfig.Status. It keeps 2xx, 3xx and 4xx except 401, 403,
// 408, 423, 425 and 429, which depend on the moment and not on the request. It releases these and
// 5xx, so that the client may try again, and returns DispositionUnknown for 502, 503 and 504.
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

// KeepAll is a ResponseConfig.Status that keeps every final answer: once the handler has come to
// one, it never runs again for the key, also after a panic. A process that dies in the middle is
// the exception.
func KeepAll(int) Disposition { return DispositionKeep }

// ParseStatusPolicy makes a policy of words: "final" for [KeepFinal], "all" for [KeepAll], or any
// number of statuses, as "404", and classes of them, as "2xx". Only answers with these are then
// kept, and a request whose answer has another status runs again on its retry, also after a 2xx;
// 502, 503 and 504 are DispositionUnknown if they are not named.
//
// Any other word, a status that is never kept (1xx, 423 and 425), and words without
// any 2xx are a [*redisidem.InvalidError].
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

// statuses returns the first and the last status that a word stands for.
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

// Policy is what the users of an API need to know: publish it with the API's documentation.
type Policy struct {
	// Header is the field's name, Methods those that are covered, in upper case. Required: a
	// request without a key is refused.
	Header   string
	Methods  []string
	Required bool
	// Strict: only keys in double quotes are accepted. MaxKeyBytes is how long a key may be.
	Strict      bool
	MaxKeyBytes int
	// Retention is how long an answer is kept after the request ended, and Lease how long after a
	// crash of the server the key may stopWatching locked.
	Retention time.Duration
	Lease     time.Duration
	// MaxBodyBytes and MaxResponseBytes are how large a request's body may be, and an answer's to
	// be kept.
	MaxBodyBytes     int64
	MaxResponseBytes int
	// Kept are the statuses from 200 to 599 whose answers are stored, if they are final.
	Kept []int
	// Wait is how long a retry waits for a request in flight; 0: it is refused at once.
	Wait time.Duration
	// Document is the address of the API's own text about it; it may be empty.
	Document string
}

// Policy returns what the middleware does, defaults filled in.
func (m *Middleware) Policy() Policy {
	p := Policy{
		Header: m.cfg.Key.Header, Methods: slices.Sorted(slices.Values(m.cfg.Methods)), Required: !m.cfg.Key.Optional, Strict: m.cfg.Key.Strict,
		MaxKeyBytes: m.cfg.Key.MaxBytes, Retention: m.service.Config().Retention, Lease: m.service.Config().Lease,
		MaxBodyBytes: m.cfg.MaxBodyBytes, MaxResponseBytes: m.cfg.Response.MaxBytes, Wait: max(m.cfg.Wait, 0),
		Document: m.cfg.PolicyURL,
	}
	for status := 200; status < 600; status++ {
		if m.cfg.Response.Status.Of(status, nil, 1) == DispositionKeep {
			p.Kept = append(p.Kept, status)
		}
	}
	return p
}
