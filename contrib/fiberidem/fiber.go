package fiberidem

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v3"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns a Fiber handler that runs the handlers behind it once for each key and replays their
// answer to each retry. The Middleware has the settings; several apps and routes may share one. New
// panics if m is nil.
//
// Behind it, c.Context() is another context; the first one is restored afterwards. Requests whose
// method is not covered, or that need no key and have none, go through unchanged, and so do their
// errors.
//
// A request for which the app has no route gets Fiber's own answer, or that of a handler of
// app.Use. A 404 or 405 is not stored then, and its error is left to the middleware in front. The
// attempt does not count, so that a route that is deployed later runs. Any other answer is stored,
// because a handler of app.Use may do work. Fiber looks for the route behind New, so the key is
// checked first.
//
// After a panic the answer is reset to its state in front of New, except for the fields that each
// answer to a key has.
func New(m *httpidem.Middleware) fiber.Handler {
	if m == nil {
		panic("fiberidem: the Middleware must not be nil")
	}
	limit := m.Policy().MaxResponseBytes
	return func(c fiber.Ctx) error {
		x := &exchange{context: c, limit: limit, header: responseHeader(c)}
		m.Handler(http.HandlerFunc(x.next)).ServeHTTP(x, newRequest(c))
		return x.finish()
	}
}

// exchange is one request that passes through the middleware, and the ResponseWriter to which the
// middleware writes. Fiber holds an answer in memory anyway. The middleware sees it when it is
// complete, and it stays in place unless the middleware writes another answer.
type exchange struct {
	context fiber.Ctx
	limit   int

	header http.Header // the answer's header as the middleware knows it
	status int         // of the middleware's answer; 0 before it
	sent   http.Header // header at that time
	body   []byte

	showing bool  // the middleware is reading the handlers' answer
	through bool  // and passed it through without reading all of it
	err     error // of a request that went through unchanged
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

// Flush implements [http.Flusher]: Fiber sends an answer after its handlers, and then it is sent.
func (x *exchange) Flush() {}

// next runs the handlers behind the middleware.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	c := x.context
	setHeader(c, x.header) // the fields that the middleware has set already
	if c.Request().IsBodyStream() {
		if x.err = restoreBody(c, r); x.err != nil {
			return
		}
	}
	front := c.Context()
	c.SetContext(r.Context())
	defer c.SetContext(front)
	if _, own := w.(*exchange); own { // the middleware does not hold the answer
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

// run runs the handlers. If one panics, their answer is removed.
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

// notFound reports whether handlers that returned err answer with 404 or 405.
func notFound(c fiber.Ctx, err error) bool {
	status := c.Response().StatusCode()
	if err != nil {
		status = fiber.StatusInternalServerError
		if known := (*fiber.Error)(nil); errors.As(err, &known) {
			status = known.Code
		}
	}
	return status == fiber.StatusNotFound || status == fiber.StatusMethodNotAllowed
}

// replace replaces the handlers' answer, except for its header.
func (x *exchange) replace(status int, body []byte) {
	response := x.context.Response()
	response.ResetBody()
	response.SkipBody = false
	response.SetStatusCode(status)
	response.SetBodyRaw(body)
}

// answerError lets the app answer an error in its usual way.
func (x *exchange) answerError(err error) {
	c := x.context
	if c.App().ErrorHandler(c, err) != nil {
		_ = c.SendStatus(fiber.StatusInternalServerError) // it returns no error
	}
}

// show writes the handlers' answer to the middleware.
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
		w.WriteHeader(http.StatusSwitchingProtocols) // for the middleware, an answer outside of HTTP
		return
	}
	w.WriteHeader(status)
	if whole {
		_, _ = w.Write(response.Body()) // an answer that must not have a body has none
		return
	}
	_ = http.NewResponseController(w).Flush()
	for !x.through { // it ignores Flush, but does not hold back more than the limit
		if _, err := w.Write(make([]byte, 1<<15)); err != nil {
			return
		}
	}
}

// readStream replaces a stream that fits into memory by an ordinary body. It reports whether the
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

// finish copies the middleware's answer to Fiber, unless Fiber has it already.
func (x *exchange) finish() error {
	c := x.context
	if x.status == 0 {
		return x.err // the middleware leaves the handlers' answer, or the connection, alone
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

// Scope makes a [httpidem.ScopeFunc] from a function that reads Fiber's context. Use it for
// authentication that stores the caller's name in c.Locals. The function is called with the context
// of the middleware in front of [New] and must not write an answer. [httpidem.ScopeFunc] says what
// the name must be like. The name may be a string that Fiber reuses after the request.
//
// Other functions of a [httpidem.Config] get a request that is made for them. It has the method,
// URL, header, body, host, address and TLS state of Fiber's request.
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

// withContext returns a context in which functions made by Scope find Fiber's context.
func withContext(c fiber.Ctx) context.Context {
	return context.WithValue(c.Context(), appContext{}, c)
}
