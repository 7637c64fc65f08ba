package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Upstream is the service behind the gateway.
type Upstream struct {
	// URL is http, https, or h2c for HTTP/2 without TLS.
	URL *url.URL
	// TLS is the client configuration for an https URL. Nil means the defaults.
	TLS *tls.Config
	// Timeout limits how long a client waits for a response to begin. A request that runs under a
	// lease then continues, and its response is kept for the retry. Zero: no limit.
	Timeout time.Duration
	// Transport is the way to the service, in place of connections to the URL. Nil: connections.
	Transport http.RoundTripper
	// KeepHost forwards the client's Host in place of the URL's.
	KeepHost bool
}

// schemeH2C is the scheme of an upstream that speaks HTTP/2 without TLS. Requests to it have http.
const schemeH2C = "h2c"

// upstreamTransport sends requests to the upstream. A request under a lease is not limited in time,
// since the upstream would still be at work after the end of its connection.
type upstreamTransport struct{ limited, leased *http.Transport }

// transport is a way to the upstream.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// connectionless is a transport without connections of its own.
type connectionless struct{ http.RoundTripper }

// CloseIdleConnections implements transport.
func (connectionless) CloseIdleConnections() {}

// newTransport returns the transport to the upstream.
func (u *Upstream) newTransport() transport {
	if u.Transport != nil {
		return connectionless{u.Transport}
	}
	return u.connections()
}

// connections returns the transport that connects to the URL.
func (u *Upstream) connections() *upstreamTransport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	leased := &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     u.TLS,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024, // all are to one host
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // responses are forwarded as they are
	}
	if u.URL.Scheme == schemeH2C {
		leased.Protocols = new(http.Protocols)
		leased.Protocols.SetUnencryptedHTTP2(true)
	}
	limited := leased.Clone()
	limited.ResponseHeaderTimeout = u.Timeout
	return &upstreamTransport{limited, leased}
}

// RoundTrip implements [http.RoundTripper].
func (t *upstreamTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if httpidem.Stage(r.Context()) != nil {
		return t.leased.RoundTrip(r)
	}
	return t.limited.RoundTrip(r)
}

// CloseIdleConnections closes the connections that are not in use.
func (t *upstreamTransport) CloseIdleConnections() {
	t.leased.CloseIdleConnections()
	t.limited.CloseIdleConnections()
}
