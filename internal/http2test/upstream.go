// Package http2test has an upstream for tests that ends HTTP/2 streams in ways that the servers of
// Go do not.
package http2test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Upstream is an HTTP/2 server that counts requests and ends the stream of each.
type Upstream struct {
	Addr     string         // host and port
	Roots    *x509.CertPool // which vouch for its certificate; nil without TLS
	Requests atomic.Int64

	end      End
	listener net.Listener
	serving  sync.WaitGroup
}

// End returns the frames that end a stream.
type End func(stream uint32) []byte

// Ends returns ways to end a stream without a response, by name.
func Ends() map[string]End {
	const protocolError, refusedStream = 1, 7
	return map[string]End{
		"PROTOCOL_ERROR": func(stream uint32) []byte { return frame(rstStream, 0, stream, word(protocolError)) },
		"PROTOCOL_ERROR after 103": func(stream uint32) []byte {
			hints := append([]byte{0x48, 3}, "103"...) // :status of HPACK's static table, with this value
			return append(frame(headers, endHeaders, stream, hints), frame(rstStream, 0, stream, word(protocolError))...)
		},
		// GOAWAY takes the stream in, and leaves the connection for no other request.
		"PROTOCOL_ERROR after GOAWAY": func(stream uint32) []byte {
			return append(frame(goAway, 0, 0, append(word(stream), word(0)...)), frame(rstStream, 0, stream, word(protocolError))...)
		},
		"REFUSED_STREAM": func(stream uint32) []byte { return frame(rstStream, 0, stream, word(refusedStream)) },
		"GOAWAY":         func(uint32) []byte { return frame(goAway, 0, 0, append(word(0), word(0)...)) },
	}
}

// TooMany is the number of requests after which an upstream breaks the connection, which ends the
// repetitions of any client.
const TooMany = 10

// New starts an upstream on the loopback interface, with or without TLS. It ends with the test,
// after its clients.
func New(t testing.TB, secure bool, end End) *Upstream {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &Upstream{Addr: listener.Addr().String(), end: end, listener: listener}
	if secure {
		certified := httptest.NewTLSServer(nil)
		certified.Close()
		u.Roots = x509.NewCertPool()
		u.Roots.AddCert(certified.Certificate())
		u.listener = tls.NewListener(listener, &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	}
	ctx, stop := context.WithCancel(context.Background())
	u.serving.Go(func() { u.accept(ctx) })
	t.Cleanup(u.serving.Wait)
	// Go's client keeps a connection for ever if a request met its GOAWAY: the upstream closes it.
	t.Cleanup(stop)
	t.Cleanup(func() { _ = listener.Close() })
	return u
}

// accept serves connections until the listener is closed. They end with ctx.
func (u *Upstream) accept(ctx context.Context) {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		u.serving.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			_ = u.serve(conn) // it ends with the connection
		})
	}
}

// serve serves a connection until it ends.
func (u *Upstream) serve(conn net.Conn) error {
	if _, err := io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return err
	}
	if _, err := conn.Write(frame(settings, 0, 0, nil)); err != nil {
		return err
	}
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(head[:4]) >> 8
		if _, err := io.CopyN(io.Discard, conn, int64(length)); err != nil {
			return err
		}
		if head[3] != headers {
			continue
		}
		if u.Requests.Add(1) > TooMany {
			return errors.New("too many requests")
		}
		if _, err := conn.Write(u.end(binary.BigEndian.Uint32(head[5:]))); err != nil {
			return err
		}
	}
}

// Types and flags of frames (RFC 9113, section 6).
const (
	headers    = 0x1
	rstStream  = 0x3
	settings   = 0x4
	goAway     = 0x7
	endHeaders = 0x4
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	length := word(uint32(len(payload)))[1:] //nolint:gosec // payloads are short
	return slices.Concat(length, []byte{kind, flags}, word(stream), payload)
}

func word(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
