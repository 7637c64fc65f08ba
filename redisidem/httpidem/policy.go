package httpidem

import (
	"net/http"
	"slices"
	"time"
)

// Disposition is what happens to an answer of the handler's.
type Disposition int

const (
	// Keep stores the answer: retries get it.
	Keep Disposition = iota + 1
	// Release does not store it: the next request with the key runs the handler again.
	Release
	// Unclear is Release for an answer that does not tell whether the work was done, as when a gateway's upstream broke off. The
	// handler of the next request sees from Stage.Attempt that it is not the first.
	Unclear
)

// String returns the disposition in lower case.
func (d Disposition) String() string {
	switch d {
	case Keep:
		return "keep"
	case Release:
		return "release"
	case Unclear:
		return "unclear"
	default:
		return "invalid"
	}
}

// KeepFinal is the default of Config.Status. It keeps 2xx, 3xx and 4xx but for 401, 403, 408, 425 and 429, which tell about the
// moment and not about the request; it releases these and 5xx, so that the client may try again; and it takes 502, 503 and 504
// for unclear.
func KeepFinal(status int) Disposition {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooEarly,
		http.StatusTooManyRequests:
		return Release
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unclear
	}
	if status >= 200 && status < 500 {
		return Keep
	}
	return Release
}

// KeepAll is a Config.Status that keeps every answer: once the handler has begun, it never runs again for the key, also after a
// panic. A process that dies in the middle is the exception.
func KeepAll(int) Disposition { return Keep }

// Policy is what the users of an API need to know: publish it with the API's documentation.
type Policy struct {
	// Header is the field's name, Methods those that are covered, in upper case. Required: a request without a key is refused.
	Header   string
	Methods  []string
	Required bool
	// Strict: only keys in double quotes are accepted. MaxKeyBytes is how long a key may be.
	Strict      bool
	MaxKeyBytes int
	// Retention is how long an answer is kept after the request ended, and Lease how long after a crash of the server the key may
	// stay locked.
	Retention time.Duration
	Lease     time.Duration
	// MaxBodyBytes and MaxResponseBytes are how large a request's body may be, and an answer's to be kept.
	MaxBodyBytes     int64
	MaxResponseBytes int
	// Kept are the statuses from 200 to 599 that are stored.
	Kept []int
	// Wait is how long a retry waits for a request in flight; 0: it is refused at once.
	Wait time.Duration
	// Document is the address of the API's own text about it; empty if there is none.
	Document string
}

// Policy returns what the middleware does, defaults filled in.
func (m *Middleware) Policy() Policy {
	p := Policy{
		Header: m.cfg.Header, Methods: slices.Sorted(slices.Values(m.cfg.Methods)), Required: !m.cfg.Optional, Strict: m.cfg.Strict,
		MaxKeyBytes: m.cfg.MaxKeyBytes, Retention: m.service.Config().Retention, Lease: m.service.Config().Lease,
		MaxBodyBytes: m.cfg.MaxBodyBytes, MaxResponseBytes: m.cfg.MaxResponseBytes, Wait: max(m.cfg.Wait, 0),
		Document: m.cfg.PolicyURL,
	}
	for status := 200; status < 600; status++ {
		if m.cfg.Status(status) == Keep {
			p.Kept = append(p.Kept, status)
		}
	}
	return p
}
