package gateway

import (
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// unsentError is the error of a request for which there was no connection, so that the upstream has
// not seen any of it.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }

func (e *unsentError) Unwrap() error { return e.err }

// reporting is a RoundTripper that tells requests that were not sent from those of which nobody
// knows.
type reporting struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t *reporting) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := t.base.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil && !connected.Load() {
		err = &unsentError{err}
	}
	return resp, err
}
