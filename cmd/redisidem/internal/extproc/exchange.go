package extproc

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"

	modes "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// part is a part of a request or its response. Envoy holds it back until it gets an answer.
type part int

const (
	nothing part = iota
	requestHeaders
	requestBodyPart
	requestTrailers
	responseHeaders
	responseBody
	responseTrailers
)

// exchange is one request and its response. Its methods are called one at a time.
type exchange struct {
	stream grpc.BidiStreamingServer[extproc.ProcessingRequest, extproc.ProcessingResponse]
	log    *slog.Logger

	method  string // of the request
	sent    bool   // the handler has sent the request to the upstream
	pending part   // Envoy waits for the answer to it
	// passed means that Envoy was let continue: it may have sent the request to the upstream.
	passed    bool
	protected bool           // the request is under a lease
	upstream  *http.Response // its response, once it has come; without its body
	body      []byte         // of the response of a protected request
}

// exchangeContext is the context key of a request's exchange.
type exchangeContext struct{}

var (
	errNoExchange   = errors.New("extproc: the request is not one of Envoy's")
	errOtherRequest = errors.New("extproc: Envoy sends the request of its client, and no other one")
	errNotAsked     = errors.New("extproc: Envoy did not send the body of the request: set request_body_mode to BUFFERED")
	errUnexpected   = errors.New("extproc: Envoy sent an unexpected message")
)

// Transport is the way to the upstream for requests from [NewHandler]: Envoy sends them, and
// reports the response. It ignores the URL.
type Transport struct{}

// RoundTrip implements [http.RoundTripper].
func (Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeContext{}).(*exchange)
	switch {
	case !ok:
		return nil, errNoExchange
	case x.sent || r.Method != x.method:
		return nil, errOtherRequest
	}
	x.sent = true
	x.protected = httpidem.Stage(r.Context()) != nil
	if x.protected && x.pending == requestTrailers { // it is too late for the fields of the lease
		httpidem.NothingDone(r.Context())
		return refusal(r), nil
	}
	if err := x.pass(r); err != nil {
		return nil, err
	}
	return x.receive(r)
}

// readBody asks for the body of the request and returns it. Envoy waits with the request meanwhile.
// In the buffered mode, the body is one message.
func (x *exchange) readBody() ([]byte, error) {
	if err := x.answer(common(withoutLease()), buffered()); err != nil {
		return nil, err
	}
	m, err := x.next()
	switch {
	case err != nil:
		return nil, err
	case m.GetRequestBody() != nil:
		return m.GetRequestBody().GetBody(), nil
	case m.GetRequestTrailers() != nil:
		return nil, nil // trailers without a body
	}
	x.passed = true // Envoy has not waited
	x.log.Error(errNotAsked.Error())
	return nil, errNotAsked
}

// refusal is the answer to a protected request that has trailers and no body. The answer to
// trailers cannot change the header.
func refusal(r *http.Request) *http.Response {
	body := `{"type":"about:blank","title":"The request has trailers and no body","status":400,` +
		`"detail":"This server cannot protect such a request. It was not executed. Send a body, or no trailers."}`
	return &http.Response{
		StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/problem+json"}}, Request: r,
		Proto: "HTTP/2.0", ProtoMajor: 2, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// pass lets Envoy send the request to the upstream.
func (x *exchange) pass(r *http.Request) error {
	mode := headersOnly()
	if x.protected {
		mode = buffered()
	}
	if err := x.answer(common(leaseFields(r.Header)), mode); err != nil {
		return err
	}
	x.passed = true
	// Otherwise the gateway would regard the request as one that was not sent.
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	return nil
}

// receive returns the response of the upstream, with its whole body if the request is protected.
func (x *exchange) receive(r *http.Request) (*http.Response, error) {
	m, err := x.next()
	for err == nil && (m.GetRequestBody() != nil || m.GetRequestTrailers() != nil) {
		// Trailers behind the body, or parts that come although another mode was asked for.
		if err = x.answer(common(nil), nil); err == nil {
			m, err = x.next()
		}
	}
	if err != nil {
		return nil, err
	}
	h := m.GetResponseHeaders()
	if h == nil {
		return nil, errUnexpected
	}
	fields, pseudo := headerOf(h.GetHeaders())
	code, err := strconv.Atoi(pseudo[":status"])
	if err != nil {
		return nil, errUnexpected
	}
	x.upstream = &http.Response{
		StatusCode: code, Header: fields, Request: r, Proto: "HTTP/2.0", ProtoMajor: 2, Body: http.NoBody,
	}
	if !x.protected {
		return x.response(), nil
	}
	for end := h.GetEndOfStream(); !end; {
		if err := x.answer(common(nil), nil); err != nil {
			return nil, err
		}
		if m, err = x.next(); err != nil {
			return nil, err
		}
		switch {
		case m.GetResponseBody() != nil:
			x.body = append(x.body, m.GetResponseBody().GetBody()...)
			end = m.GetResponseBody().GetEndOfStream()
		case m.GetResponseTrailers() != nil:
			x.upstream.Trailer, _ = headerOf(m.GetResponseTrailers().GetTrailers())
			end = true
		default:
			return nil, errUnexpected
		}
	}
	return x.response(), nil
}

// response returns the response of the upstream, for a caller that may change it.
func (x *exchange) response() *http.Response {
	out := *x.upstream
	out.Header, out.Trailer = x.upstream.Header.Clone(), x.upstream.Trailer.Clone()
	out.ContentLength = int64(len(x.body))
	if len(x.body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	return &out
}

// finish answers what Envoy still waits for, with the response of the handler.
func (x *exchange) finish(w *recorder) error {
	switch {
	case x.upstream == nil && x.passed:
		// After the end of a stream without an error, Envoy would send the response as it is.
		return status.Error(codes.Aborted, "the response cannot be processed")
	case !x.passed, x.protected && (w.broken || !w.same(x.upstream, x.body)):
		return x.replace(w)
	}
	if err := x.answer(common(x.changed(w)), nil); err != nil {
		return err
	}
	for { // parts that Envoy sends although they were not asked for
		if _, err := x.next(); err != nil {
			return nil //nolint:nilerr // the response is complete, and Envoy ends the stream
		}
		if err := x.answer(common(nil), nil); err != nil {
			return err
		}
	}
}

// replace sends the handler's response to the client, in place of the upstream's response, or
// without a request to the upstream.
func (x *exchange) replace(w *recorder) error {
	return x.stream.Send(&extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ImmediateResponse{ImmediateResponse: w.immediate()}})
}

// next receives a message and notes that Envoy waits for the answer to it.
func (x *exchange) next() (*extproc.ProcessingRequest, error) {
	m, err := x.stream.Recv()
	if err != nil {
		x.pending = nothing
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch m.GetRequest().(type) {
	case *extproc.ProcessingRequest_RequestHeaders:
		x.pending = requestHeaders
	case *extproc.ProcessingRequest_RequestBody:
		x.pending = requestBodyPart
	case *extproc.ProcessingRequest_RequestTrailers:
		x.pending = requestTrailers
	case *extproc.ProcessingRequest_ResponseHeaders:
		x.pending = responseHeaders
	case *extproc.ProcessingRequest_ResponseBody:
		x.pending = responseBody
	case *extproc.ProcessingRequest_ResponseTrailers:
		x.pending = responseTrailers
	default:
		return nil, errUnexpected
	}
	return m, nil
}

// answer lets Envoy continue with the part that it waits with. The mode is for the parts to come,
// and nil for no change. Envoy accepts one only with headers.
func (x *exchange) answer(c *extproc.CommonResponse, mode *modes.ProcessingMode) error {
	out := &extproc.ProcessingResponse{}
	headers := &extproc.HeadersResponse{Response: c}
	switch x.pending {
	case requestHeaders:
		out.ModeOverride = mode
		out.Response = &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: headers}
	case requestBodyPart:
		out.Response = &extproc.ProcessingResponse_RequestBody{RequestBody: &extproc.BodyResponse{Response: c}}
	case requestTrailers:
		out.Response = &extproc.ProcessingResponse_RequestTrailers{RequestTrailers: &extproc.TrailersResponse{HeaderMutation: withoutLease()}}
	case responseHeaders:
		out.Response = &extproc.ProcessingResponse_ResponseHeaders{ResponseHeaders: headers}
	case responseBody:
		out.Response = &extproc.ProcessingResponse_ResponseBody{ResponseBody: &extproc.BodyResponse{Response: c}}
	case responseTrailers:
		out.Response = &extproc.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extproc.TrailersResponse{}}
	case nothing:
		return errUnexpected
	}
	x.pending = nothing
	return x.stream.Send(out)
}

// buffered is the mode for a request whose body was asked for, since it may be under a lease: its
// response must be stored before it is sent.
func buffered() *modes.ProcessingMode {
	return &modes.ProcessingMode{
		RequestBodyMode: modes.ProcessingMode_BUFFERED, RequestTrailerMode: modes.ProcessingMode_SEND,
		ResponseHeaderMode: modes.ProcessingMode_SEND, ResponseBodyMode: modes.ProcessingMode_BUFFERED,
		ResponseTrailerMode: modes.ProcessingMode_SEND,
	}
}

// headersOnly is the mode for other requests: the access log has the status of the response, and
// trailers of the request may have forged fields of a lease.
func headersOnly() *modes.ProcessingMode {
	return &modes.ProcessingMode{
		RequestBodyMode: modes.ProcessingMode_NONE, RequestTrailerMode: modes.ProcessingMode_SEND,
		ResponseHeaderMode: modes.ProcessingMode_SEND, ResponseBodyMode: modes.ProcessingMode_NONE,
		ResponseTrailerMode: modes.ProcessingMode_SKIP,
	}
}
