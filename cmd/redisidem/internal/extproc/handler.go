package extproc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	modes "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// NewHandler returns a handler for the gRPC streams of Envoy, which a server with HTTP/2 must
// serve. It runs inner for the request of each stream. The upstream of inner must be [Transport].
func NewHandler(inner http.Handler, log *slog.Logger) http.Handler {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes))
	extproc.RegisterExternalProcessorServer(server, &processor{inner: inner, log: log})
	return server
}

// processor implements the service ExternalProcessor.
type processor struct {
	extproc.UnimplementedExternalProcessorServer

	inner http.Handler
	log   *slog.Logger
}

// Process serves one request of a client of Envoy.
func (p *processor) Process(stream grpc.BidiStreamingServer[extproc.ProcessingRequest, extproc.ProcessingResponse]) error {
	first, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	case first.GetRequestHeaders() == nil:
		return status.Error(codes.InvalidArgument, "the first message must have the headers of the request: set request_header_mode to SEND")
	case first.GetObservabilityMode():
		return status.Error(codes.InvalidArgument, "observability_mode must not be set: a request with a key must wait for its answer")
	}
	if err := checkModes(first.GetProtocolConfig()); err != nil {
		return err
	}
	x := &exchange{stream: stream, log: p.log, pending: requestHeaders}
	w := newRecorder()
	r, err := newRequest(context.WithValue(stream.Context(), exchangeContext{}, x), first.GetRequestHeaders())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return x.finish(w)
	}
	x.method = r.Method
	if from, ok := peer.FromContext(stream.Context()); ok {
		r.RemoteAddr = from.Addr.String()
	}
	if first.GetRequestHeaders().GetEndOfStream() {
		r.Body, r.ContentLength = http.NoBody, 0
	} else {
		r.Body = &requestBody{exchange: x}
	}
	p.serve(w, r)
	return x.finish(w)
}

// serve runs the handler. Its panic breaks the response off, as in net/http.
func (p *processor) serve(w *recorder, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler { //nolint:errorlint // it comes as it was thrown
				p.log.Error("handler panicked", "panic", v)
			}
			w.broken = true
		}
	}()
	p.inner.ServeHTTP(w, r)
}

// checkModes refuses modes of Envoy in which a body comes in pieces or not at all. A request with a
// key would pass without protection.
func checkModes(c *extproc.ProtocolConfiguration) error {
	if c == nil {
		return status.Error(codes.InvalidArgument, "the first message must have protocol_config: this version of Envoy is too old")
	}
	for name, mode := range map[string]modes.ProcessingMode_BodySendMode{
		"request_body_mode": c.GetRequestBodyMode(), "response_body_mode": c.GetResponseBodyMode(),
	} {
		if mode != modes.ProcessingMode_BUFFERED {
			return status.Errorf(codes.InvalidArgument, "%s must be BUFFERED: %s", name, mode)
		}
	}
	return nil
}
