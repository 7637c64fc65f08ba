package httpidem

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The defaults of [TransportConfig].
const (
	DefaultAttempts     = 5
	DefaultMinBackoff   = 100 * time.Millisecond
	DefaultMaxBackoff   = 5 * time.Second
	DefaultPatience     = time.Minute
	DefaultMaxDrain     = 64 << 10
	DefaultMaxSentBytes = 1 << 20
)

// TransportConfig tunes a [Transport]. The zero value of each field means its default, and a nil *TransportConfig means all
// defaults.
type TransportConfig struct {
	// Header is the name of the field that carries the key. Default: Idempotency-Key.
	Header string

	// Methods are the request methods that get a key, in any case. Default: POST and PATCH.
	Methods []string

	// NewKey makes a key for each new request. It is called concurrently. Default: the function NewKey. [NewTimeKey] is for servers
	// that want to see the time in it.
	NewKey func() string

	// Attempts is how often a request is sent at most. Default: 5. 1: once.
	Attempts int

	// MinBackoff and MaxBackoff bound the pauses between attempts, which double from the first to the last, and each of which is a
	// random part of that, at least half. A Retry-After makes a pause longer. Defaults: 100 ms and 5 s.
	MinBackoff time.Duration
	MaxBackoff time.Duration

	// Patience is the longest Retry-After that is waited for. An answer with a longer one is returned as it is. The Transport's own
	// pauses are MaxBackoff's to bound. Default: 1 min.
	Patience time.Duration

	// Statuses are the answers that are retried, besides errors of the network; what is left of their bodies is read during the pause,
	// but no more than 64 KiB of it, so that their connection can be used again. 400 and 422 cannot be among them: the same request
	// would fail again. An answer that is marked as a replay never changes and is not retried. Default: 409 and 503.
	Statuses []int

	// MaxBodyBytes bounds the body of a request without a GetBody, which is held in memory so that it can be sent again. A request with
	// a larger one is sent once. Default: 1 MiB.
	MaxBodyBytes int64
}

// Transport is a [http.RoundTripper] that gives each request an idempotency key, keeps the key over retries and redirects, and
// retries what may be retried: errors of the network, requests in flight (409), and servers that are not available (503), with
// back-off and jitter, within the request's context. It is safe for concurrent use.
//
// An error that came before anything was sent and that would come again is returned at once: a request that HTTP cannot carry (its
// method, URL, header or trailer fields), a scheme that the base does not know, a server whose certificate is not trusted, and one
// that speaks no TLS. Each other error of the base's is taken for the network's: names that are not found, connections that are
// refused, time-outs, and answers that break off.
//
// Each RoundTrip is a request of its own with a fresh key, but a redirect is the request that it follows. A request that has a key in its
// header or its context ([WithKey]) keeps it. Requests with methods that are not covered pass through.
//
// Sending a key that a server does not heed protects nothing: use it for APIs that promise to.
type Transport struct {
	base http.RoundTripper
	cfg  TransportConfig
}

// NewTransport makes a Transport on another RoundTripper; nil means [http.DefaultTransport]. The timeout of one attempt is the
// base's, as its ResponseHeaderTimeout; that of them all is the request's context. A field of cfg that breaks its bound is a
// [*redisidem.InvalidError].
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

func (c *TransportConfig) withDefaults() TransportConfig {
	var out TransportConfig
	if c != nil {
		out = *c
	}
	def(&out.Header, DefaultHeader)
	if out.Methods == nil {
		out.Methods = []string{http.MethodPost, http.MethodPatch}
	}
	out.Methods = slices.Clone(out.Methods)
	for i, method := range out.Methods {
		out.Methods[i] = strings.ToUpper(method)
	}
	if out.NewKey == nil {
		out.NewKey = NewKey
	}
	def(&out.Attempts, DefaultAttempts)
	def(&out.MinBackoff, DefaultMinBackoff)
	def(&out.MaxBackoff, max(DefaultMaxBackoff, out.MinBackoff))
	def(&out.Patience, DefaultPatience)
	if out.Statuses == nil {
		out.Statuses = []int{http.StatusConflict, http.StatusServiceUnavailable}
	}
	out.Statuses = slices.Clone(out.Statuses)
	def(&out.MaxBodyBytes, DefaultMaxSentBytes)
	return out
}

func (c *TransportConfig) validate() error {
	switch {
	case !isToken(c.Header):
		return invalid("TransportConfig.Header", "is not the name of a header field: %q", c.Header)
	case c.Attempts < 1:
		return invalid("TransportConfig.Attempts", "must be at least 1: %d", c.Attempts)
	case c.MinBackoff < 0:
		return invalid("TransportConfig.MinBackoff", "must not be negative: %v", c.MinBackoff)
	case c.MaxBackoff < c.MinBackoff:
		return invalid("TransportConfig.MaxBackoff", "(%v) must not be less than MinBackoff (%v)", c.MaxBackoff, c.MinBackoff)
	case c.Patience < 0:
		return invalid("TransportConfig.Patience", "must not be negative: %v", c.Patience)
	case c.MaxBodyBytes < 0:
		return invalid("TransportConfig.MaxBodyBytes", "must not be negative: %d", c.MaxBodyBytes)
	}
	for _, status := range c.Statuses {
		if status < 400 || status > 599 || status == http.StatusBadRequest || status == http.StatusUnprocessableEntity {
			return invalid("TransportConfig.Statuses", "must be between 400 and 599, without 400 and 422: %d", status)
		}
	}
	return nil
}

type keyContext struct{}

// WithKey returns a context for a request that has a key already: one that the program keeps beside its own record of the work, so
// that it is the same when the program itself starts over.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyContext{}, key)
}

// RoundTrip implements [http.RoundTripper]. Besides the base's errors it returns a [*SyntaxError] for a key that a header field cannot
// carry, and the context's when that ends between two attempts, together with the last attempt's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !covers(t.cfg.Methods, req.Method) {
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
	pause := t.cfg.MinBackoff
	for attempt := 1; ; attempt++ {
		resp, err := t.base.RoundTrip(out)
		if resp != nil && resp.Request == nil {
			resp.Request = out // where a redirect finds the key
		}
		if attempt >= t.cfg.Attempts || !repeatable || req.Context().Err() != nil || !t.worthwhile(out, resp, err) {
			return resp, err
		}
		after := retryAfter(resp)
		wait := max(pause/2+rand.N(pause/2+1), after)
		if deadline, ok := req.Context().Deadline(); after > t.cfg.Patience || ok && time.Until(deadline) <= wait {
			return resp, err // there is no time for another attempt, and this is the best answer there is
		}
		if cause := rest(req.Context(), wait, resp); cause != nil {
			if err == nil {
				err = fmt.Errorf("httpidem: the last answer was %s", resp.Status)
			}
			return nil, errors.Join(cause, err)
		}
		pause = min(2*pause, t.cfg.MaxBackoff)
		if out, err = again(out); err != nil {
			return nil, err
		}
	}
}

// CloseIdleConnections is for [http.Client.CloseIdleConnections].
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// setKey gives a request its key, unless it has one: that of its context, that of the request it is a redirect of, or a fresh
// one.
func (t *Transport) setKey(req *http.Request) error {
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if len(req.Header[t.cfg.Header]) > 0 {
		return nil
	}
	key, ok := req.Context().Value(keyContext{}).(string)
	if !ok && req.Response != nil && req.Response.Request != nil {
		if lines := req.Response.Request.Header[t.cfg.Header]; len(lines) > 0 {
			req.Header[t.cfg.Header] = slices.Clone(lines)
			return nil
		}
	}
	if !ok {
		key = t.cfg.NewKey()
	}
	text, err := FormatKey(key)
	if err != nil {
		return err
	}
	req.Header.Set(t.cfg.Header, text)
	return nil
}

// makeRepeatable gives a request a GetBody, if that is possible. That is also what net/http's transport needs to send a request
// with a key again by itself when a connection turns out to be dead.
func (t *Transport) makeRepeatable(req *http.Request) (bool, error) {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return true, nil
	}
	body := req.Body
	held, err := io.ReadAll(io.LimitReader(body, t.cfg.MaxBodyBytes+1))
	if err != nil {
		_ = body.Close()
		return false, err
	}
	if int64(len(held)) > t.cfg.MaxBodyBytes {
		req.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(held), body), body}
		return false, nil
	}
	_ = body.Close()
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil }
	req.Body, err = req.GetBody()
	return true, err
}

// again returns a request for another attempt: the base may still be at work with the one before.
func again(req *http.Request) (*http.Request, error) {
	next := req.Clone(req.Context())
	if req.GetBody == nil {
		return next, nil
	}
	var err error
	next.Body, err = req.GetBody()
	return next, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// worthwhile reports whether another attempt may bring something else.
func (t *Transport) worthwhile(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		return !permanent(req, err)
	}
	return slices.Contains(t.cfg.Statuses, resp.StatusCode) && resp.Header.Get(ReplayedHeader) != "true"
}

// permanent reports whether an error came before anything was sent, and comes each time. What is not known to is not: it may be
// the network's.
func permanent(req *http.Request, err error) bool {
	var (
		unverified *tls.CertificateVerificationError
		authority  x509.UnknownAuthorityError
		hostname   x509.HostnameError
		invalid    x509.CertificateInvalidError
		header     tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unverified), errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &invalid):
		return true // also when it is a function of the program's that does not trust the server
	case errors.As(err, &header) && string(header.RecordHeader[:]) == "HTTP/":
		return true // the server speaks no TLS
	}
	// Of the errors that a request itself is refused with, net/http exports none.
	return !wellFormed(req) || strings.Contains(err.Error(), "unsupported protocol scheme")
}

// wellFormed reports whether HTTP can carry a request.
func wellFormed(req *http.Request) bool {
	u := req.URL
	if u == nil || u.Host == "" && (u.Scheme == "http" || u.Scheme == "https") || req.Method != "" && !isToken(req.Method) {
		return false
	}
	control := func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
	for _, fields := range []http.Header{req.Header, req.Trailer} {
		for name, values := range fields {
			if !isToken(name) || slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, control) }) {
				return false
			}
		}
	}
	return true
}

// retryAfter returns how long the server wants to be left alone: a number of seconds or a date.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	text := resp.Header.Get("Retry-After")
	switch seconds, err := strconv.ParseUint(text, 10, 31); {
	case err == nil:
		return time.Duration(seconds) * time.Second
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64 // more than anybody waits
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// rest waits, and returns why it was called off. What is left of the answer before, if there is one, is read meanwhile: read to its
// end, it leaves its connection to the next attempt.
func rest(ctx context.Context, d time.Duration, resp *http.Response) error {
	over, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if resp != nil {
		closeBody := sync.OnceFunc(func() { _ = resp.Body.Close() })
		stop := context.AfterFunc(over, closeBody)
		_, _ = io.CopyN(io.Discard, resp.Body, DefaultMaxDrain)
		stop()
		closeBody()
	}
	<-over.Done()
	return context.Cause(ctx)
}
