package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// Upstream is the service behind the gateway.
type Upstream struct {
	URL *url.URL
	// TLS is for an https URL.
	TLS *tls.Config
	// Timeout bounds the time to the first byte of an answer.
	Timeout time.Duration
	// KeepHost sends the client's Host field on, in place of the URL's.
	KeepHost bool
}

// newTransport makes the connections to the upstream. Nothing is sent twice by itself: whether a
// request may be is the gateway's to say.
func (u *Upstream) newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       u.TLS,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: u.Timeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   256,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // what the upstream sends goes on as it is
	}
}

// route sends a request to the upstream with path and query byte for byte as they came, behind
// those of the upstream's URL. ReverseProxy drops parameters that Go cannot parse, and net/url
// escapes what it would not have written itself.
func (u *Upstream) route(r *httputil.ProxyRequest) {
	r.SetURL(u.URL)
	out := r.Out.URL
	out.RawQuery = r.In.URL.RawQuery
	switch base := u.URL.RawQuery; {
	case base != "" && out.RawQuery != "":
		out.RawQuery = base + "&" + out.RawQuery
	case base != "":
		out.RawQuery = base
	}
	path := strings.TrimSuffix(u.URL.EscapedPath(), "/") + rawPath(r.In.URL)
	// Opaque cannot begin with two slashes: such a path goes the usual way, and only what no URL
	// may have is escaped in it.
	if path != out.EscapedPath() && !strings.HasPrefix(path, "//") {
		out.Opaque = path
	}
}

// rawPath returns the path of a parsed request target as it came.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// rawTarget returns a parsed request target, path and query, as it came.
func rawTarget(u *url.URL) string {
	if u.ForceQuery || u.RawQuery != "" {
		return rawPath(u) + "?" + u.RawQuery
	}
	return rawPath(u)
}

// newProxy makes the handler that sends requests to the upstream.
func newProxy(u *Upstream, transport http.RoundTripper, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: &sentTracker{transport},
		Rewrite: func(r *httputil.ProxyRequest) {
			u.route(r)
			r.SetXForwarded()
			r.Out.Trailer = r.In.Trailer // the map that is filled while the body is read
			if u.KeepHost {
				r.Out.Host = r.In.Host
			}
			describe(r)
			hideReplays(r.Out)
		},
		// The proxy logs responses that break off, with parts of them.
		ErrorLog: stdlog.New(lineWriter(func() { log.Warn("upstream failed in the middle of its answer") }), "", 0),
	}
}

// proxyOf is the proxy of a route, which says in the route's form what went wrong.
func (g *Gateway) proxyOf(p *Policy) *httputil.ReverseProxy {
	proxy := *g.proxy
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		status := http.StatusBadGateway
		var timeout net.Error
		var notSent *notSentError
		switch {
		case errors.As(err, &notSent):
			status = http.StatusServiceUnavailable
		case errors.Is(err, context.Canceled):
			// The client has gone, or the lease is lost: this response is not read.
		case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
			status = http.StatusGatewayTimeout
		}
		g.log.LogAttrs(r.Context(), slog.LevelWarn, "upstream failed", slog.Int("status", status), slog.Bool("sent", notSent == nil),
			slog.String("error", errorKind(err)))
		if notSent != nil {
			httpidem.NothingDone(r.Context())
			p.writeProblem(w, r, httpidem.Problem{
				Status: status, RetryAfter: time.Second, Title: "The upstream cannot be reached",
				Detail: "The request was not sent to it. Try again later, with the same Idempotency-Key.",
			})
			return
		}
		httpidem.OutcomeUnknown(r.Context())
		p.writeProblem(w, r, noAnswer(r, status))
	}
	return &proxy
}

// noAnswer is the problem of a request that the upstream has got and not answered. It may be sent
// again if that cannot do its work twice unseen: it is protected, or safe.
func noAnswer(r *http.Request, status int) httpidem.Problem {
	problem := httpidem.Problem{
		Status: status, Title: "The upstream gave no answer",
		Detail: "It may have done what it was asked for. Ask again with the same Idempotency-Key.",
	}
	if httpidem.Stage(r.Context()) != nil || isSafe(r.Method) {
		problem.RetryAfter = time.Second
	}
	return problem
}

// The fields that describe the request's lease to the upstream: the number of its attempt,
// and a number that grows with each lease of a key, by which it can refuse older ones.
const (
	attemptHeader = "Idempotency-Attempt"
	fenceHeader   = "Idempotency-Fence"
)

// describe sets the fields of the lease. Values of the client are dropped.
func describe(r *httputil.ProxyRequest) {
	r.Out.Header.Del(attemptHeader)
	r.Out.Header.Del(fenceHeader)
	if st := httpidem.Stage(r.In.Context()); st != nil {
		r.Out.Header.Set(attemptHeader, strconv.Itoa(st.Attempt()))
		r.Out.Header.Set(fenceHeader, strconv.FormatInt(st.Fence(), 10))
	}
}

// errorKind describes for operators what failed between the gateway and the upstream. Once the
// upstream has got the request, an error's own text may have parts of its answer.
func errorKind(err error) string {
	var notSent *notSentError
	var network net.Error
	switch {
	case errors.As(err, &notSent):
		return notSent.Error()
	case errors.Is(err, errOutcomeUnknown), errors.Is(err, errNoStatus):
		return err.Error()
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return "the connection ended"
	}
	return "no answer that can be read"
}

// lineWriter is a writer that takes a line of a log for no more than a reason to write another one.
type lineWriter func()

func (f lineWriter) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// hideReplays keeps Go's transport from sending a request again by itself when a kept connection
// breaks before the answer, which is for the gateway to decide. It does so with a body that can be
// had again, and with one of these fields, for which it looks under their names in Go's form. On
// the wire the form makes no difference.
func hideReplays(r *http.Request) {
	r.GetBody = nil
	for _, name := range []string{idemheader.Key, "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
}
