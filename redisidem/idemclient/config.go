package idemclient

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// largestBody bounds TransportConfig.MaxBodyBytes, so that the arithmetic with it cannot overflow.
const largestBody = 1 << 40

// The defaults of [TransportConfig].
const (
	DefaultAttempts     = 5
	DefaultMinBackoff   = 100 * time.Millisecond
	DefaultMaxBackoff   = 5 * time.Second
	DefaultPatience     = time.Minute
	DefaultMaxBodyBytes = 1 << 20
)

// TransportConfig configures a [Transport]. The zero value of each field means its default, and a
// nil *TransportConfig means all defaults.
type TransportConfig struct {
	// Header is the name of the header field that carries the key. Default: Idempotency-Key.
	Header string

	// Methods are the request methods that get a key, in upper or lower case. Default: POST and
	// PATCH.
	Methods []string

	// NewKey returns a key for each new request. It is called concurrently. Default: the function
	// [NewKey]. [NewTimeKey] is for servers that refuse old keys.
	NewKey func() string

	// Attempts is how often a request is sent at most. With 1 it is sent once. Default: 5.
	Attempts int

	// MinBackoff and MaxBackoff bound the pause between two attempts. The pause doubles from
	// MinBackoff to MaxBackoff, and each pause is a random time between half of it and all of it. A
	// Retry-After can make it longer. Defaults: 100 ms and 5 s.
	MinBackoff time.Duration
	MaxBackoff time.Duration

	// Patience is the longest Retry-After that the Transport waits for. A response that asks for
	// more is returned. It does not bound the Transport's own pauses. Default: 1 min.
	Patience time.Duration

	// Statuses are the response statuses that are retried. 400 and 422 are refused, since the same
	// request would fail again. A response that is marked as a replay is never retried, since it
	// never changes.
	//
	// Before a retry, up to 64 KiB of the response body are read, so that the connection can be
	// reused. Default: 409 and 503.
	Statuses []int

	// MaxBodyBytes limits the body of a request without a GetBody, which is held in memory to be
	// sent again. A request with a larger body is sent once. At most 1 TiB. Default:
	// 1 MiB.
	MaxBodyBytes int64
}

func (c *TransportConfig) withDefaults() TransportConfig {
	var out TransportConfig
	if c != nil {
		out = *c
	}
	out.Header = cmp.Or(out.Header, idemheader.Key)
	if out.Methods == nil {
		out.Methods = []string{http.MethodPost, http.MethodPatch}
	}
	out.Methods = httptoken.Upper(out.Methods)
	if out.NewKey == nil {
		out.NewKey = NewKey
	}
	out.Attempts = cmp.Or(out.Attempts, DefaultAttempts)
	out.MinBackoff = cmp.Or(out.MinBackoff, DefaultMinBackoff)
	out.MaxBackoff = cmp.Or(out.MaxBackoff, max(DefaultMaxBackoff, out.MinBackoff))
	out.Patience = cmp.Or(out.Patience, DefaultPatience)
	if out.Statuses == nil {
		out.Statuses = defaultStatuses
	}
	out.Statuses = slices.Clone(out.Statuses)
	out.MaxBodyBytes = cmp.Or(out.MaxBodyBytes, DefaultMaxBodyBytes)
	return out
}

// validate reports the first field, defaults filled in, that is out of its bounds.
func (c *TransportConfig) validate() error {
	switch {
	case !httptoken.Valid(c.Header):
		return invalid("Header must be the name of a header field: %q", c.Header)
	case c.Attempts < 1:
		return invalid("Attempts must be at least 1: %d", c.Attempts)
	case c.MinBackoff < 0:
		return invalid("MinBackoff must not be negative: %v", c.MinBackoff)
	case c.MaxBackoff < c.MinBackoff:
		return invalid("MaxBackoff (%v) must not be less than MinBackoff (%v)", c.MaxBackoff, c.MinBackoff)
	case c.Patience < 0:
		return invalid("Patience must not be negative: %v", c.Patience)
	case c.MaxBodyBytes < 0 || c.MaxBodyBytes > largestBody:
		return invalid("MaxBodyBytes must be between 0 and %d: %d", int64(largestBody), c.MaxBodyBytes)
	}
	for _, status := range c.Statuses {
		if !mayBeRetryable(status) {
			return invalid("Statuses must be between 400 and 599, without 400 and 422: %d", status)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("idemclient: TransportConfig."+format, args...)
}
