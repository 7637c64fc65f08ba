package main

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
)

// listenerTLS is the TLS configuration of the listener, which may be replaced while it is in use.
type listenerTLS struct{ current atomic.Pointer[tls.Config] }

// newListenerTLS returns a listenerTLS that begins with a configuration. Nil means no TLS.
func newListenerTLS(first *tls.Config) *listenerTLS {
	l := &listenerTLS{}
	l.current.Store(first)
	return l
}

// config returns a configuration for the listener with which each connection uses the newest. It is
// nil without TLS.
func (l *listenerTLS) config() *tls.Config {
	if l.current.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.current.Load(), nil },
	}
}

// check returns an error for a configuration that cannot replace the present one.
func (l *listenerTLS) check(next *tls.Config) error {
	if (l.current.Load() == nil) != (next == nil) {
		return errors.New("a reload cannot begin or end TLS on the listener: restart the gateway")
	}
	return nil
}
