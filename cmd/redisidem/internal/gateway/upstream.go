package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
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
		MaxIdleConnsPerHost:   1024, // all are to one host
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // responses are forwarded as they are
	}
}
