package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// reducedRequest is a request of which spans get only the method and the server. Its path and its
// query may contain keys and secrets, a client can write what it likes into its fields, and the
// text of an error may contain a part of an answer.
type reducedRequest struct {
	request *http.Request
	err     error // of the request, which spans do not get
}

type reducedContext struct{}

// reduced returns the request that spans get.
func (t *reducedRequest) reduced() *http.Request {
	r := t.request.WithContext(context.WithValue(t.request.Context(), reducedContext{}, t))
	r.URL = &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: "/"}
	r.Body, r.Header = http.NoBody, make(http.Header)
	copyTraceFields(r.Header, t.request.Header)
	return r
}

// reducedOf returns the request behind a reduced one.
func reducedOf(reduced *http.Request) *reducedRequest {
	t, _ := reduced.Context().Value(reducedContext{}).(*reducedRequest)
	return t
}

// copyTraceFields copies the fields of the W3C context.
func copyTraceFields(to, from http.Header) {
	for _, field := range propagator.Fields() {
		if value := from.Get(field); value != "" {
			to.Set(field, value)
		}
	}
}

// tracedTransport makes a span for each request, by the transport that it has.
type tracedTransport struct{ spans http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := &reducedRequest{request: r}
	res, err := t.spans.RoundTrip(sent.reduced())
	if sent.err != nil {
		err = sent.err
	}
	return res, err
}

// restoringTransport sends the request behind a reduced one.
type restoringTransport struct{ next http.RoundTripper }

// errReduced stands for the error of a request in its span.
var errReduced = errors.New("the upstream did not answer")

// RoundTrip implements [http.RoundTripper].
func (t restoringTransport) RoundTrip(reduced *http.Request) (*http.Response, error) {
	sent := reducedOf(reduced)
	r := sent.request.WithContext(reduced.Context())
	r.Header = r.Header.Clone()
	copyTraceFields(r.Header, reduced.Header)
	res, err := t.next.RoundTrip(r)
	if sent.err = err; err != nil {
		return nil, errReduced
	}
	return res, nil
}
