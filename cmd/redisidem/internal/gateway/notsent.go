package gateway

import (
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// notSentError reports that no connection was made for a request. The upstream has not received any
// part of it.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }

func (e *notSentError) Unwrap() error { return e.err }

// sentTracker is a RoundTripper that distinguishes requests that were not sent from requests whose
// outcome is unknown.
type sentTracker struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t *sentTracker) RoundTrip(r *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := t.base.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil && !connected.Load() {
		err = &notSentError{err}
	}
	return resp, err
}
