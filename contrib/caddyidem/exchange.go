package caddyidem

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// The values of Handler.Interrupted.
const (
	interruptedRefuse = "refuse"
	interruptedRun    = "run"
)

// clientClosedRequest is the status with which reverse_proxy ends a request whose context has
// ended. No upstream has sent it.
const clientClosedRequest = 499

// exchange is one request that passes through the handler.
type exchange struct {
	handler *Handler
	next    caddyhttp.Handler
	err     error                         // what the handlers behind this one returned
	body    func() (io.ReadCloser, error) // returns the body again; nil if it was not read
}

// ServeHTTP runs the handlers behind this one.
func (x *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	x.body = r.GetBody
	st := httpidem.Stage(ctx)
	if st == nil {
		x.err = x.next.ServeHTTP(w, r)
		if x.err != nil {
			httpidem.AnsweredOutside(ctx)
		}
		return
	}
	if x.handler.Interrupted != interruptedRun {
		st.KeepUnsettled() // otherwise a retry after the retention would be a first attempt
		if st.Attempt() > 1 {
			x.refuse(w, r)
			return
		}
	}
	var connected atomic.Bool
	r = r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}))
	stopTransportRetries(r)
	response := &statusWriter{ResponseWriter: w}
	defer func() {
		if v := recover(); v != nil { // as reverse_proxy does when an upstream breaks off
			httpidem.OutcomeUnknown(ctx)
			panic(v)
		}
	}()
	x.err = x.next.ServeHTTP(response, r)
	switch {
	case x.err != nil:
		httpidem.AnsweredOutside(ctx) // Caddy writes the response to the error
		for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Type", "Etag", "Last-Modified"} {
			w.Header().Del(name) // of a response that is not sent
		}
		if neverConnected(x.err, r) && !connected.Load() && response.status == 0 {
			httpidem.NothingDone(ctx)
		}
	case response.status == clientClosedRequest && ctx.Err() != nil:
		// The lease was lost, and reverse_proxy took that for the client's leaving.
		httpidem.OutcomeUnknown(ctx)
	case response.refused(x.handler.keep, st.Attempt()):
		httpidem.NothingDone(ctx) // so the outcome is known
	}
}

// neverConnected reports whether reverse_proxy has not reached any upstream. A request that was
// tried twice counts as sent, because only the transport for HTTP reports its connections.
func neverConnected(err error, r *http.Request) bool {
	if _, ok := errors.AsType[reverseproxy.DialError](err); !ok {
		return false
	}
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	_, answered := replacer.Get("http.reverse_proxy.status_code")
	retries, tried := replacer.Get("http.reverse_proxy.retries")
	return !answered && (!tried || retries == 0)
}

// stopTransportRetries stops Go's transport from repeating the request by itself after an idle
// connection broke. The transport repeats requests with a GetBody, and requests with one of these
// fields. It looks for their canonical names. On the wire the case of a name does not matter.
func stopTransportRetries(r *http.Request) {
	r.GetBody = nil
	r.Header = r.Header.Clone()
	for _, name := range []string{idemheader.Key, "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values
		}
	}
}

// statusWriter notes the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 before the response has begun
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// refused reports whether the response to an attempt refuses the request and is not stored, so that
// nothing was done. It is called after the whole response was written. The status of a gRPC
// response is in its trailers.
func (w *statusWriter) refused(keep httpidem.StatusPolicy, attempt int) bool {
	header := w.Header()
	trailer := http.Header{"Grpc-Status": header[http.TrailerPrefix+"Grpc-Status"]} // if it was not announced
	status := httpidem.EquivalentStatus(w.status, header, trailer)
	return status/100 == 4 && keep.Of(status, header, attempt) != httpidem.DispositionKeep
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// documentation describes the problems of a handler without a policy URL.
const documentation = "https://github.com/redisidem/redisidem/blob/main/docs/http.md"

// refuse answers that the outcome of an earlier attempt is unknown. It runs no handler, so this
// attempt does not count.
func (x *exchange) refuse(w http.ResponseWriter, r *http.Request) {
	h := x.handler
	h.log.Warn("request refused: the outcome of an earlier attempt is unknown",
		zap.String("method", r.Method), zap.String("path", r.URL.EscapedPath()),
		zap.String("key", httpidem.Stage(r.Context()).Key().ID()),
		zap.String("settle", "redisidem keys resolve if the work was done, redisidem keys delete if it was not"))
	httpidem.NothingDone(r.Context())
	policy := h.PolicyURL
	if policy == "" {
		policy = documentation
	}
	// Problem.RetryAfter stays 0: clients must not repeat the request by themselves.
	w.Header().Set("Retry-After", "60")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(idemheader.Problem, httpidem.ResultOutcomeUnknown.String())
	h.profile().WriteProblem(w, r, &httpidem.Problem{
		Type: policy + "#outcome-unknown", Result: httpidem.ResultOutcomeUnknown,
		Status: http.StatusServiceUnavailable, Title: "The outcome of the request is unknown",
		Detail: "An earlier attempt broke off, and may have done the work. The request was not repeated. " +
			"An operator must find out what happened. Then the same key gets its answer. Do not send the request with another key.",
	})
}
