package gateway

import (
	stdlog "log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
)

// newProxy returns the proxy that forwards requests to the upstream.
func newProxy(u *Upstream, transport http.RoundTripper, trusted TrustedProxies, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  &sentTracker{transport},
		BufferPool: &bufferPool{},
		Rewrite: func(r *httputil.ProxyRequest) {
			u.route(r)
			trusted.forward(r)
			r.Out.Trailer = r.In.Trailer // this map is filled while the body is read
			if u.KeepHost {
				r.Out.Host = r.In.Host
			}
			removeHTTP2Upgrade(r.Out.Header)
			setLeaseHeaders(r)
			stopTransportRetries(r.Out)
		},
		// The proxy's own log lines may contain parts of a response.
		ErrorLog: stdlog.New(lineWriter(func() { log.Warn("upstream failed while it sent a response") }), "", 0),
	}
}

// proxyOf returns the proxy of a route, which reports failures in the form of the route.
func (g *generation) proxyOf(p *Policy) *httputil.ReverseProxy {
	proxy := *g.proxy
	proxy.ErrorHandler = g.upstreamErrorHandler(p)
	return &proxy
}

// bufferPool has the buffers that ReverseProxy copies the bodies of responses with. Without a pool
// it allocates one for each response.
type bufferPool struct{ pool sync.Pool }

type copyBuffer [32 << 10]byte

// Get implements [httputil.BufferPool].
func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*copyBuffer); ok {
		return b[:]
	}
	return make([]byte, len(copyBuffer{}))
}

// Put implements [httputil.BufferPool].
func (p *bufferPool) Put(b []byte) { p.pool.Put((*copyBuffer)(b)) }

// lineWriter is a writer that calls a function for each line of a log, and discards the line.
type lineWriter func()

func (f lineWriter) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}
