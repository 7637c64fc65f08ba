package httpidem

import (
	"errors"
	"math"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// shortestRetryAfter is the lower bound of a pause that the store or a quota proposes, and the
// pause of a client if neither proposes one.
const shortestRetryAfter = time.Second

// retryAfter returns how long a client should wait before it repeats a request with this result. It
// returns 0 if a retry of the same request does not help. err is the error behind the result, or
// nil.
func (m *Middleware) retryAfter(r Result, err error) time.Duration {
	switch r { //nolint:exhaustive // the others do not ask for a retry
	case ResultUnavailable, ResultSuperseded, ResultUnfinished, ResultSpoolUnavailable:
		return shortestRetryAfter
	case ResultPaused:
		return m.cfg.MaxRetryAfter
	case ResultUnacknowledged, ResultTimedOut:
		return min(m.cfg.MaxRetryAfter, m.lease)
	case ResultInFlight:
		if locked, ok := errors.AsType[*redisidem.LockedError](err); ok {
			return max(min(locked.RetryAfter, m.cfg.MaxRetryAfter), shortestRetryAfter)
		}
		return shortestRetryAfter
	case ResultOverQuota:
		if quota, ok := errors.AsType[*QuotaError](err); ok {
			return max(quota.RetryAfter, shortestRetryAfter)
		}
		return shortestRetryAfter
	}
	return 0
}

// wholeSeconds rounds up, since a client that retries too early is refused again.
func wholeSeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
