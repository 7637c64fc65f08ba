package idemclient

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// Transport is an [http.RoundTripper] that gives each request an idempotency key and retries it
// with the same key. It retries after network errors and after the statuses of [TransportConfig].
// These are by default 409 (a request with the key is in flight) and 503 (the server is
// unavailable). It blocks and pauses between attempts. It stops when the request's context ends, or
// when the deadline comes before the next attempt. It is safe for concurrent use.
//
// An error that occurs before anything is sent, and that would occur again, is returned at once.
// Such errors are:
//
//   - a request that HTTP cannot carry
//   - an unsupported URL scheme
//   - a certificate that is not trusted
//   - a server that does not speak TLS
//
// Every other error of the base is treated as transient.
//
// Each call of RoundTrip is a new request with a fresh key. A key that the request has in its
// header, or in its context (see [WithKey]), is kept. A redirect keeps the key of its original
// request. A request whose method is not in [TransportConfig] passes through unchanged.
//
// A key protects nothing if the server ignores it. Use a Transport only for APIs that document the
// header field.
type Transport struct {
	base http.RoundTripper
	cfg  TransportConfig
}

// NewTransport returns a Transport that sends requests with base; nil means
// [http.DefaultTransport]. Set a timeout for one attempt in base, such as ResponseHeaderTimeout,
// and one for all attempts in the request's context. A field of cfg that is out of its bounds is an
// error that names the field and the bound.
func NewTransport(base http.RoundTripper, cfg *TransportConfig) (*Transport, error) {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &Transport{base: base, cfg: cfg.withDefaults()}
	if err := t.cfg.validate(); err != nil {
		return nil, err
	}
	t.cfg.Header = http.CanonicalHeaderKey(t.cfg.Header)
	return t, nil
}

// RoundTrip implements [http.RoundTripper]. Besides the errors of the base it returns an
// [*idemheader.SyntaxError] for a key that a header field cannot carry. If the request's context
// ends between two attempts, it returns the context's error joined with that of the last attempt.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !httptoken.Covers(t.cfg.Methods, req.Method) {
		return t.base.RoundTrip(req)
	}
	out := req.Clone(req.Context())
	if err := t.setKey(out); err != nil {
		closeBody(req)
		return nil, err
	}
	repeatable, err := t.makeRepeatable(out)
	if err != nil {
		return nil, err
	}
	pauses := backoff{next: t.cfg.MinBackoff, max: t.cfg.MaxBackoff}
	for attempt := 1; ; attempt++ {
		resp, err := t.base.RoundTrip(out)
		if resp != nil && resp.Request == nil {
			resp.Request = out // a redirect reads the key from it
		}
		if attempt >= t.cfg.Attempts || !repeatable || req.Context().Err() != nil || !t.isRetryable(out, resp, err) {
			return resp, err
		}
		after := retryAfter(resp)
		wait := max(pauses.draw(), after)
		if !t.hasTime(req.Context(), after, wait) {
			return resp, err
		}
		if cause := pauseFor(req.Context(), wait, resp); cause != nil {
			if err == nil {
				err = fmt.Errorf("idemclient: the last response was %s", resp.Status)
			}
			return nil, errors.Join(cause, err)
		}
		if out, err = cloneForRetry(out); err != nil {
			return nil, err
		}
	}
}

// CloseIdleConnections closes the idle connections of the base, for
// [http.Client.CloseIdleConnections].
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}
