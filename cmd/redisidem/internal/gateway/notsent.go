package gateway

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// notSentError reports that no connection was made for a request. The upstream has not received any
// part of it.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }

func (e *notSentError) Unwrap() error { return e.err }

// sentTracker is a RoundTripper that distinguishes requests that were not sent from requests whose
// outcome is unknown, and lets each request be sent once. It is for the requests of an
// httputil.ReverseProxy: it adds to the trace in the context of a request.
type sentTracker struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t *sentTracker) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := &sending{}
	if mayBeRepeated(r) {
		// The context stays in use until the response was read, and ends with its parent.
		ctx, cancel := context.WithCancel(r.Context())
		r, sent.stop = r.WithContext(ctx), cancel
	}
	// ReverseProxy makes a trace for each request. Another one around it would cost a copy of the
	// request.
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn == nil && trace.WroteHeaderField == nil {
		sent.follow(trace)
	} else {
		trace = &httptrace.ClientTrace{}
		sent.follow(trace)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	}
	resp, err := t.base.RoundTrip(r)
	switch {
	case err == nil:
		return resp, nil
	case sent.repeated.Load():
		err = errRepeated
	case !sent.connected.Load():
		err = &notSentError{err}
	}
	return nil, err
}

const notSentStatus = http.StatusServiceUnavailable

// answerNotSent answers a request that was not sent. The attempt does not count.
func (p *Policy) answerNotSent(w http.ResponseWriter, r *http.Request) {
	httpidem.NothingDone(r.Context())
	detail := "The request was not sent to the upstream. Try again later."
	if httpidem.Stage(r.Context()) != nil {
		detail = "The request was not sent to the upstream. Try again later, with the same Idempotency-Key."
	}
	p.writeProblem(w, r, httpidem.Problem{Status: notSentStatus, RetryAfter: time.Second, Title: "The upstream cannot be reached", Detail: detail})
}
