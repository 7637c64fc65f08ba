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
	// TLS is the client configuration for an https URL. Nil means the defaults.
	TLS *tls.Config
	// Timeout limits the wait for the header of a response. Zero: no limit.
	Timeout time.Duration
	// KeepHost forwards the client's Host in place of the URL's.
	KeepHost bool
}

// newTransport returns the transport to the upstream.
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
		DisableCompression:    true, // responses are forwarded as they are
	}
}

// route sets the URL of a request to the upstream. Path and query are appended to the upstream's
// URL byte for byte. ReverseProxy would drop parameters that Go cannot parse, and net/url would
// escape some characters.
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
	// Opaque cannot begin with two slashes. Such a path is left to net/url, which escapes only
	// characters that are invalid in a URL.
	if path != out.EscapedPath() && !strings.HasPrefix(path, "//") {
		out.Opaque = path
	}
}

// rawPath returns the path of a URL as the client sent it.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// rawTarget returns the path and the query of a URL as the client sent them.
func rawTarget(u *url.URL) string {
	if u.ForceQuery || u.RawQuery != "" {
		return rawPath(u) + "?" + u.RawQuery
	}
	return rawPath(u)
}

// newProxy returns the proxy that forwards requests to the upstream.
func newProxy(u *Upstream, transport http.RoundTripper, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: &sentTracker{transport},
		Rewrite: func(r *httputil.ProxyRequest) {
			u.route(r)
			r.SetXForwarded()
			r.Out.Trailer = r.In.Trailer // this map is filled while the body is read
			if u.KeepHost {
				r.Out.Host = r.In.Host
			}
			describe(r)
			hideReplays(r.Out)
		},
		// The proxy's own log lines may contain parts of a response.
		ErrorLog: stdlog.New(lineWriter(func() { log.Warn("upstream failed in the middle of its answer") }), "", 0),
	}
}

// proxyOf returns the proxy of a route, which reports failures in the form of the route.
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
			// The client has disconnected, or the lease is lost. This response is not read.
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

// noAnswer returns the problem for a request that was sent and not answered. It asks for a retry
// only if a retry cannot do the work twice unnoticed: the request is protected, or its method is
// safe.
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

// The fields that describe the lease of a request to the upstream: the number of the attempt, and
// the fence. The fence grows with each lease of a key, so that the upstream can refuse older ones.
const (
	attemptHeader = "Idempotency-Attempt"
	fenceHeader   = "Idempotency-Fence"
)

// describe sets the fields of the lease. Values from the client are removed.
func describe(r *httputil.ProxyRequest) {
	r.Out.Header.Del(attemptHeader)
	r.Out.Header.Del(fenceHeader)
	if st := httpidem.Stage(r.In.Context()); st != nil {
		r.Out.Header.Set(attemptHeader, strconv.Itoa(st.Attempt()))
		r.Out.Header.Set(fenceHeader, strconv.FormatInt(st.Fence(), 10))
	}
}

// errorKind describes an error of the upstream for operators. The text of an error after the
// request was sent may contain parts of the response, so it is not used.
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

// lineWriter is a writer that calls a function for each line of a log, and discards the line.
type lineWriter func()

func (f lineWriter) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// hideReplays stops Go's transport from repeating a request by itself after an idle connection
// broke. Whether to repeat it is the gateway's decision. The transport repeats requests with a
// GetBody, and requests with one of these fields. It looks for their canonical names. On the wire
// the case of a name does not matter.
func hideReplays(r *http.Request) {
	r.GetBody = nil
	for _, name := range []string{idemheader.Key, "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
}
