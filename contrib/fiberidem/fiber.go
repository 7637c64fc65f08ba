package fiberidem

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v3"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns a Fiber handler that runs the handlers behind it once for each key, and answers
// retries with the same response. Several apps and routes may share a Middleware. New panics if m
// is nil. The returned handler may be called concurrently.
//
// For the handlers behind New, c.Context() is another context. The first one is restored
// afterwards. Requests whose method is not covered, or that have no key and need none, are not
// changed, and neither are their errors.
//
// A request without a route is answered by Fiber itself, or by a handler of app.Use. A 404 or 405
// is not stored then, and its error is returned to the middleware in front. The attempt does not
// count, so that a route that is deployed later runs. Any other response is stored, because a
// handler of app.Use may do work. Fiber looks for the route behind New, so the key is checked
// first.
//
// After a panic the response is reset to its state in front of New. Only the fields of every
// response to a request with a key stay.
func New(m *httpidem.Middleware) fiber.Handler {
	if m == nil {
		panic("fiberidem: the Middleware must not be nil")
	}
	limit := m.Policy().MaxResponseBytes
	return func(c fiber.Ctx) error {
		x := &exchange{context: c, limit: limit, header: responseHeader(c), request: body{context: c}}
		defer x.request.finish()
		m.Handler(http.HandlerFunc(x.next)).ServeHTTP(x, newRequest(c, &x.request))
		return x.finish()
	}
}

// exchange is one request that passes through the middleware. It is also the ResponseWriter of the
// middleware. Fiber holds a response in memory in any case. The middleware reads it when it is
// complete. It stays in place unless the middleware writes another response.
type exchange struct {
	context fiber.Ctx
	limit   int
	request body // of the request

	header http.Header // of the response, as the middleware sees it
	status int         // of the middleware's response; 0 before WriteHeader
	sent   http.Header // a copy of header at WriteHeader
	body   []byte

	showing bool  // the middleware is reading the handlers' response
	through bool  // the middleware passed the handlers' response through
	err     error // of a request that was not held back
}

var (
	_ http.ResponseWriter = (*exchange)(nil)
	_ http.Flusher        = (*exchange)(nil)
)

// Header implements [http.ResponseWriter].
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader implements [http.ResponseWriter].
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status, x.sent, x.through = status, x.header.Clone(), x.showing
	}
}

// Write implements [http.ResponseWriter].
func (x *exchange) Write(p []byte) (int, error) {
	if !x.through {
		x.body = append(x.body, p...)
	}
	return len(p), nil
}

// Flush implements [http.Flusher]. It does nothing, since Fiber sends the response after the
// handlers.
func (x *exchange) Flush() {}

// next runs the handlers behind the middleware.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	c := x.context
	setHeader(c, x.header) // the fields that the middleware has set already
	front := c.Context()
	x.request.pass(r)
	c.SetContext(r.Context())
	defer c.SetContext(front)
	if _, own := w.(*exchange); own { // the response is not held back
		x.err = c.Next()
		return
	}
	err := x.run()
	unrouted := !c.Matched() && notFound(c, err)
	if unrouted {
		httpidem.NothingDone(r.Context())
	}
	switch {
	case err == nil:
	case unrouted:
		x.err = err
		httpidem.AnsweredOutside(r.Context())
		return
	default:
		x.answerError(err)
	}
	x.show(w)
}

// run runs the handlers. If one panics, their response is removed.
func (x *exchange) run() error {
	c := x.context
	status := c.Response().StatusCode()
	returned := false
	defer func() {
		if !returned {
			x.replace(status, nil)
			setHeader(c, x.header)
		}
	}()
	err := c.Next()
	returned = true
	return err
}

// notFound reports whether the handlers, which returned err, answered with 404 or 405.
func notFound(c fiber.Ctx, err error) bool {
	status := c.Response().StatusCode()
	if err != nil {
		status = fiber.StatusInternalServerError
		if known, ok := errors.AsType[*fiber.Error](err); ok {
			status = known.Code
		}
	}
	return status == fiber.StatusNotFound || status == fiber.StatusMethodNotAllowed
}

// replace replaces the handlers' response, except for its header.
func (x *exchange) replace(status int, body []byte) {
	response := x.context.Response()
	response.ResetBody()
	response.SkipBody = false
	response.SetStatusCode(status)
	response.SetBodyRaw(body)
}

// answerError lets the ErrorHandler of the app answer an error.
func (x *exchange) answerError(err error) {
	c := x.context
	if c.App().ErrorHandler(c, err) != nil {
		_ = c.SendStatus(fiber.StatusInternalServerError) // SendStatus never returns an error
	}
}

// show writes the handlers' response to the middleware.
func (x *exchange) show(w http.ResponseWriter) {
	c := x.context
	whole := x.readStream()
	header := responseHeader(c)
	clear(w.Header())
	for name, values := range header {
		w.Header()[name] = values
	}
	response := c.Response()
	x.showing = true
	defer func() { x.showing = false }()
	status := response.StatusCode()
	if status < 200 || c.RequestCtx().Hijacked() {
		w.WriteHeader(http.StatusSwitchingProtocols) // the middleware never stores this status
		return
	}
	w.WriteHeader(status)
	if whole {
		_, _ = w.Write(response.Body()) // the body is empty if the status allows none
		return
	}
	_ = http.NewResponseController(w).Flush()
	for !x.through { // with KeepFlushed it ignores Flush, but it never holds back more than the limit
		if _, err := w.Write(make([]byte, 1<<15)); err != nil {
			return
		}
	}
}

// readStream replaces a stream that fits into memory with an ordinary body. It reports whether the
// body is ordinary now.
func (x *exchange) readStream() bool {
	c := x.context
	response := c.Response()
	if !response.IsBodyStream() {
		return true
	}
	size := response.Header.ContentLength()
	if size < 0 || size > x.limit {
		return false
	}
	text, err := readAll(response.BodyStream(), size)
	if err != nil {
		response.Reset()
		x.answerError(err)
		return !response.IsBodyStream()
	}
	response.SetBodyRaw(text)
	return true
}

// finish copies the middleware's response to Fiber, unless Fiber has it already.
func (x *exchange) finish() error {
	c := x.context
	if x.status == 0 {
		return x.err // the middleware keeps the handlers' response, or the connection
	}
	if response := c.Response(); !x.through {
		if response.IsBodyStream() || response.StatusCode() != x.status || !bytes.Equal(response.Body(), x.body) {
			x.replace(x.status, x.body)
		}
	}
	setHeader(c, x.sent)
	return nil
}

// appContext is the key of Fiber's context in a request's context.
type appContext struct{}

var errElsewhere = errors.New("fiberidem: the scope function was called for a request that did not come through New")

// Scope returns a [httpidem.ScopeFunc] that calls a function with Fiber's context. Use it if
// authentication stores the caller's name in c.Locals. The context is that of the middleware in
// front of [New]. The function must not write a response, and is called concurrently. See
// [httpidem.ScopeFunc] for the name that it returns. The name may be a string that Fiber reuses
// after the request.
//
// Other functions of a [httpidem.Config] get a copy of Fiber's request. It has the method, URL,
// header, body, host, address and TLS state.
func Scope(scope func(c fiber.Ctx) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		c, ok := r.Context().Value(appContext{}).(fiber.Ctx)
		if !ok {
			return "", errElsewhere
		}
		name, err := scope(c)
		return string([]byte(name)), err // a copy: the store may still use it when Fiber reuses its memory
	}
}

// withContext returns a context that has Fiber's context, for Scope.
func withContext(c fiber.Ctx) context.Context {
	return context.WithValue(c.Context(), appContext{}, c)
}
