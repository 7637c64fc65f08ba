package idemclient

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// retryAfter returns the delay that a response asks for with a Retry-After, in seconds or as a
// date; 0 if it asks for none.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	text := resp.Header.Get("Retry-After")
	switch seconds, err := strconv.ParseUint(text, 10, 31); {
	case err == nil:
		return time.Duration(seconds) * time.Second
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// hasTime reports whether another attempt may follow after wait, when the response asks for a pause
// of after: that is not longer than Patience, and the call's deadline is later.
func (t *Transport) hasTime(ctx context.Context, after, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return after <= t.cfg.Patience && (!ok || time.Until(deadline) > wait)
}
