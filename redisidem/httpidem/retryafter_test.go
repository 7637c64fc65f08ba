package httpidem_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestRetryAfterHasBounds is about the pause that a problem asks for: at least a second, and for a
// request in flight at most Config.MaxRetryAfter.
func TestRetryAfterHasBounds(t *testing.T) {
	t.Parallel()
	locked := func(d time.Duration) error { return &redisidem.LockedError{RetryAfter: d} }
	used := func(d time.Duration) error { return &httpidem.QuotaError{What: "requests", RetryAfter: d} }
	m := newMiddleware(t, newStore(t).service(redisidem.Config{Lease: 3 * time.Second}), &httpidem.Config{MaxRetryAfter: 7 * time.Second})
	long := newMiddleware(t, newStore(t).service(redisidem.Config{Lease: 30 * time.Second}), &httpidem.Config{MaxRetryAfter: 7 * time.Second})
	for _, c := range []struct {
		name   string
		m      *observed
		result httpidem.Result
		err    error
		want   time.Duration
	}{
		{"the rest of a lease", m, httpidem.ResultInFlight, locked(2500 * time.Millisecond), 2500 * time.Millisecond},
		{"a lease that ends at once", m, httpidem.ResultInFlight, locked(0), time.Second},
		{"a lease that ends late", m, httpidem.ResultInFlight, locked(time.Hour), 7 * time.Second},
		{"a lease of unknown length", m, httpidem.ResultInFlight, nil, time.Second},
		{"a quota", m, httpidem.ResultOverQuota, used(time.Hour), time.Hour},
		{"a quota that is free at once", m, httpidem.ResultOverQuota, used(time.Millisecond), time.Second},
		{"a quota with an error of its own", m, httpidem.ResultOverQuota, errors.New("full"), time.Second},
		{"an unacknowledged commit, for the lease", m, httpidem.ResultUnacknowledged, nil, 3 * time.Second},
		{"an unacknowledged commit, for MaxRetryAfter", long, httpidem.ResultUnacknowledged, nil, 7 * time.Second},
		{"no store", m, httpidem.ResultUnavailable, redisidem.ErrUnavailable, time.Second},
		{"another worker", m, httpidem.ResultSuperseded, redisidem.ErrFenced, time.Second},
		{"a failed stage", m, httpidem.ResultUnfinished, locked(time.Hour), time.Second},
		{"a paused flow", m, httpidem.ResultPaused, &redisidem.PausedError{}, 7 * time.Second},
		{"the key of another request", m, httpidem.ResultMismatch, redisidem.ErrFingerprintMismatch, 0},
		{"an answer that was not kept", m, httpidem.ResultGone, redisidem.ErrNotKept, 0},
		{"a damaged record", m, httpidem.ResultFailed, redisidem.ErrDamaged, 0},
	} {
		if got := httpidem.RetryAfter(c.m.Middleware, c.result, c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestRetryAfterIsSentInWholeSeconds is about a quota that is free in a moment and a bit.
func TestRetryAfterIsSentInWholeSeconds(t *testing.T) {
	t.Parallel()
	var seen time.Duration
	h := newStore(t).middleware(&httpidem.Config{
		Quota: refusing(1200 * time.Millisecond),
		WriteProblem: func(w http.ResponseWriter, r *http.Request, p *httpidem.Problem) {
			seen = p.RetryAfter
			httpidem.WriteProblem(w, r, p)
		},
	}).Handler(created("done"))
	if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "2" || seen != 1200*time.Millisecond {
		t.Errorf("%d, Retry-After %q from %v", w.Code, w.Header().Get("Retry-After"), seen)
	}
}

// refusing is a Quota that is used up for the given time.
type refusing time.Duration

func (q refusing) Admit(context.Context, string) (func(bool), error) {
	return nil, &httpidem.QuotaError{What: "requests", RetryAfter: time.Duration(q)}
}
