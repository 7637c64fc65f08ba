package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// outdatedIdleTime is how long a connection stays open that is idle, and whose client was verified
// by earlier authorities. It is not zero, because an HTTP/2 connection counts as idle before the
// end of its last response is sent.
const outdatedIdleTime = time.Second

// ListenerTLS is the TLS of the listener for clients, whose configuration may be replaced while it
// is in use. A nil *ListenerTLS is that of a listener without TLS. It is safe for concurrent use.
type ListenerTLS struct {
	current atomic.Pointer[tls.Config]

	mu    sync.Mutex
	conns map[net.Conn]*clientConn // the open ones; mu guards it
}

// clientConn is a connection of a client.
type clientConn struct {
	net.Conn
	config atomic.Pointer[tls.Config] // of its handshake; nil before
	idle   atomic.Bool
}

type clientConnContext struct{}

// NewListenerTLS returns a ListenerTLS that begins with a configuration. It returns nil for nil.
func NewListenerTLS(first *tls.Config) *ListenerTLS {
	if first == nil {
		return nil
	}
	l := &ListenerTLS{conns: make(map[net.Conn]*clientConn)}
	l.current.Store(first)
	return l
}

// Wrap returns a listener for a server, whose hooks for connections it sets. Each connection uses
// the newest configuration.
func (l *ListenerTLS) Wrap(server *http.Server, listener net.Listener) net.Listener {
	server.ConnContext, server.ConnState = l.connContext, l.connState
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: l.configForClient})
}

func (l *ListenerTLS) connContext(ctx context.Context, c net.Conn) context.Context {
	conn := &clientConn{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = conn
	return context.WithValue(ctx, clientConnContext{}, conn)
}

func (l *ListenerTLS) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	config := l.current.Load()
	if conn, ok := hello.Context().Value(clientConnContext{}).(*clientConn); ok {
		conn.config.Store(config)
	}
	return config, nil
}

func (l *ListenerTLS) connState(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.conns[c]
	if state == http.StateClosed || state == http.StateHijacked {
		delete(l.conns, c)
	} else if conn != nil {
		conn.idle.Store(state == http.StateIdle)
		l.endOutdated(conn)
	}
}

// endOutdated closes a connection soon, if it is outdated and stays idle.
func (l *ListenerTLS) endOutdated(conn *clientConn) {
	if conn.idle.Load() && l.outdated(conn) {
		time.AfterFunc(outdatedIdleTime, func() {
			if conn.idle.Load() {
				_ = conn.Close()
			}
		})
	}
}

// outdated reports whether the client of a connection was verified by other authorities than the
// present ones.
func (l *ListenerTLS) outdated(conn *clientConn) bool {
	own, now := conn.config.Load(), l.current.Load()
	return own != nil && own != now && !own.ClientCAs.Equal(now.ClientCAs)
}

// Check returns an error for a configuration that cannot replace the present one.
func (l *ListenerTLS) Check(next *tls.Config) error {
	if (l == nil) != (next == nil) {
		return errors.New("a reload cannot begin or end TLS on the listener: restart the gateway")
	}
	return nil
}

// Replace replaces the configuration with one that Check accepts. If it has other authorities for
// clients, the open connections end: after the requests that have begun, and an idle one after
// outdatedIdleTime. A further request on one is served only if the new authorities vouch for its
// client, too. An upgraded connection goes on until one of its sides ends it.
func (l *ListenerTLS) Replace(next *tls.Config) {
	if l == nil {
		return
	}
	l.current.Store(next)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		l.endOutdated(conn)
	}
}

// admit reports whether the present authorities vouch for the client of a request. It ends the
// connection after the response if it is outdated.
func (l *ListenerTLS) admit(w http.ResponseWriter, r *http.Request) bool {
	if l == nil {
		return true
	}
	conn, ok := r.Context().Value(clientConnContext{}).(*clientConn)
	if !ok || !l.outdated(conn) {
		return true
	}
	w.Header().Set("Connection", "close")
	secure, ok := conn.Conn.(*tls.Conn) // r.TLS is nil for a request that came inside of a stream
	return ok && vouch(l.current.Load(), secure.ConnectionState())
}

// vouch reports whether the authorities of a configuration vouch for the client of a connection.
func vouch(config *tls.Config, state tls.ConnectionState) bool {
	if config.ClientAuth == tls.NoClientCert {
		return true
	}
	if len(state.PeerCertificates) == 0 {
		return false
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: config.ClientCAs, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
