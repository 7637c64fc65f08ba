package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// stopTransportRetries stops Go's transport from repeating a request by itself after an idle
// connection broke. Whether to repeat it is the gateway's decision. The transport repeats requests
// with a GetBody, requests with one of these fields, and safe methods without a body. It looks for
// the canonical names of the fields. On the wire the case of a name does not matter.
func stopTransportRetries(r *http.Request) {
	r.GetBody = nil
	for i, name := range repeatingFields {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[lowerRepeatingFields[i]] = values
		}
	}
	if r.Body == nil && lacksBody(r.Method) && httpidem.Stage(r.Context()) != nil && !isCheckRequest(r) {
		r.Body = emptyBody{} // the transport finds out that it is empty, and sends none over HTTP/1
	}
}

// lacksBody reports whether a method is safe, and the transport sends no body if it finds an empty
// one. A TRACE would get an empty body in chunks, and must have none.
func lacksBody(method string) bool { return isSafe(method) && method != http.MethodTrace }

// emptyBody is a body that the transport does not know to be empty, other than [http.NoBody].
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }

func (emptyBody) Close() error { return nil }

var (
	repeatingFields      = [...]string{idemheader.Key, "X-Idempotency-Key"}
	lowerRepeatingFields = [...]string{strings.ToLower(idemheader.Key), "x-idempotency-key"}
)

// errRepeated reports that Go's transport was about to send a request for the second time. The
// outcome of the first time is unknown.
var errRepeated = errors.New("the upstream ended the stream of the request without a response")

// mayBeRepeated reports whether Go's transport for HTTP/2 may repeat a request, so that its work is
// done twice. It repeats requests without a body.
func mayBeRepeated(r *http.Request) bool { return r.Body == nil && !isSafe(r.Method) }

// sending is how far a request has come on its way to the upstream.
type sending struct {
	stop      context.CancelFunc // ends the request; nil if it is harmless to repeat
	connected atomic.Bool
	begun     atomic.Bool // an HTTP/2 stream was opened for the request
	repeated  atomic.Bool // and another one was about to be
}

// follow lets a trace report the progress of the request.
//
// Go's transport for HTTP/2 repeats a request without a body whose stream the upstream ended with
// RST_STREAM or GOAWAY. After PROTOCOL_ERROR the upstream may have done the work. After
// REFUSED_STREAM, or a GOAWAY that leaves the stream out, it has not, but a trace does not have the
// reason. Therefore no request is repeated once its stream was opened, as is the case for requests
// with a body. HTTP/1 has no pseudo-header fields, and repeats only what [stopTransportRetries]
// leaves. But a request that was begun over HTTP/2 may be repeated over a connection that speaks
// HTTP/1.
func (s *sending) follow(trace *httptrace.ClientTrace) {
	trace.GotConn = func(info httptrace.GotConnInfo) {
		s.connected.Store(true)
		if s.stop != nil && s.begun.Load() {
			s.repeated.Store(true)
			s.stop() // the transport for HTTP/2 looks at the context before it writes
			if negotiated, ok := info.Conn.(*tls.Conn); ok && negotiated.ConnectionState().NegotiatedProtocol != "h2" {
				_ = info.Conn.Close() // that for HTTP/1 writes at the same time, and no other request has this connection
			}
		}
	}
	if s.stop != nil {
		trace.WroteHeaderField = func(name string, _ []string) {
			if strings.HasPrefix(name, ":") {
				s.begun.Store(true)
			}
		}
	}
}
