package httpidem

import (
	"slices"
	"time"
)

// Policy describes the middleware to the users of an API. Publish it with the API's documentation.
type Policy struct {
	// Header is the name of the field that carries the key. Sources are the places of the key, if
	// they are others. Methods are the covered methods, in upper case. Required is whether a
	// request without a key is refused.
	Header   string
	Sources  []KeySource
	Methods  []string
	Required bool
	// Strict is whether only keys in double quotes are accepted. MaxKeyBytes is the maximum length
	// of a key.
	Strict      bool
	MaxKeyBytes int
	// Retention is how long a response is kept after the request ended. Lease is how long the key
	// may stay locked after a crash of the server.
	Retention time.Duration
	Lease     time.Duration
	// MaxBodyBytes is the maximum size of a request body. MaxResponseBytes is the maximum size of a
	// response body that is stored.
	MaxBodyBytes     int64
	MaxResponseBytes int
	// Kept are the statuses from 200 to 599 whose final responses are stored.
	Kept []int
	// Wait is how long a retry waits for a request in flight. With 0 it is refused at once.
	Wait time.Duration
	// Document is the address of the API's own documentation, or empty.
	Document string
}

// Policy returns the policy of the middleware, with defaults filled in.
func (m *Middleware) Policy() Policy {
	p := Policy{
		Header: m.cfg.Key.Header, Sources: slices.Clone(m.cfg.Key.Sources), Methods: slices.Sorted(slices.Values(m.cfg.Methods)), Required: !m.cfg.Key.Optional, Strict: m.cfg.Key.Strict,
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
