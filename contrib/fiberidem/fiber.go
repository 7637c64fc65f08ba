package fiberidem

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v3"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns a Fiber handler that runs what is behind it once for each key, and gives its answer
// again to each retry. The Middleware says how; several apps and routes may share one. It panics if
// m is nil.
//
// For what is behind it c.Context() is another one, which is put back afterwards. Requests whose
// method is not covered, or that need no key and have none, go through as they are, and so do their
// errors.
//
// A request for which the app has no route gets Fiber's own answer, or that of a handler of
// app.Use. A 404 or 405 is not stored then, its error is left to what stands in front, and the
// attempt does not count, so that a route that is deployed later runs. Any other answer is stored,
// since a handler of app.Use may do work. Fiber looks for the route behind New, so the key is
// checked first.
//
// After a panic the answer is again what it was when New was called, but for the fields that each
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

// exchange is one request on its way through the middleware, and the ResponseWriter that the
// middleware answers to. Fiber holds an answer in memory anyway: it is shown to the middleware when
// it is complete, and stays where it is unless the middleware answers something else.
type exchange struct {
	context fiber.Ctx
	limit   int

	header http.Header // what the middleware knows of the answer's header
	status int         // of the middleware's answer; 0 until there is one
	sent   http.Header // header, as it was then
	body   []byte

	showing bool  // the handlers' answer is being shown to the middleware
	through bool  // and it took it as it is, without seeing all of it
	err     error // of a request that went through as it is
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

// next runs what is behind the middleware.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	c := x.context
	setHeader(c, x.header) // what the middleware has to say already
	if c.Request().IsBodyStream() {
		if x.err = restoreBody(c, r); x.err != nil {
			return
		}
	}
	front := c.Context()
	c.SetContext(r.Context())
	defer c.SetContext(front)
	if _, own := w.(*exchange); own { // the middleware has nothing to do with the answer
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

// run runs the handlers. When one panics, nothing of their answer is left.
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

// replace replaces the handlers' answer but for its header.
func (x *exchange) replace(status int, body []byte) {
	response := x.context.Response()
	response.ResetBody()
	response.SkipBody = false
	response.SetStatusCode(status)
	response.SetBodyRaw(body)
}

// answerError has the app answer an error, as it does itself.
func (x *exchange) answerError(err error) {
	c := x.context
	if c.App().ErrorHandler(c, err) != nil {
		_ = c.SendStatus(fiber.StatusInternalServerError) // it returns no error
	}
}

// show shows the handlers' answer to the middleware.
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
		w.WriteHeader(http.StatusSwitchingProtocols) // to the middleware, an answer that is none of HTTP's
		return
	}
	w.WriteHeader(status)
	if whole {
		_, _ = w.Write(response.Body()) // an answer that must not have a body has none
		return
	}
	_ = http.NewResponseController(w).Flush()
	for !x.through { // it heeds no Flush, but it does not hold back more than the limit
		if _, err := w.Write(make([]byte, 1<<15)); err != nil {
			return
		}
	}
}

// readStream makes an ordinary body of a stream that can be held in memory, and reports whether the
// body is an ordinary one now.
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

// finish makes the middleware's answer Fiber's, unless it is that already.
func (x *exchange) finish() error {
	c := x.context
	if x.status == 0 {
		return x.err // the handlers' answer, or the connection, is theirs alone
	}
	if response := c.Response(); !x.through {
		if response.IsBodyStream() || response.StatusCode() != x.status || !bytes.Equal(response.Body(), x.body) {
			x.replace(x.status, x.body)
		}
	}
	setHeader(c, x.sent)
	return nil
}

// appContext is the key under which a request's context has Fiber's.
type appContext struct{}

var errElsewhere = errors.New("fiberidem: a scope function for Fiber was asked about a request that did not come through New")

// Scope makes a [httpidem.ScopeFunc] of a function that looks at Fiber's context: for
// authentication that leaves the caller's name in c.Locals. It is called with the context as the
// middleware in front of [New] has it, and must not write an answer. What the name must be like is
// told with [httpidem.ScopeFunc]; it may be one of the strings that Fiber takes back after the
// request.
//
// The request that other functions of a [httpidem.Config] get is made for them: it has method, URL,
// header, body, host, address and TLS state of Fiber's.
func Scope(scope func(c fiber.Ctx) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		c, ok := r.Context().Value(appContext{}).(fiber.Ctx)
		if !ok {
			return "", errElsewhere
		}
		name, err := scope(c)
		return string([]byte(name)), err // a copy: the store may still be at work when Fiber uses its memory again
	}
}

// withContext returns a context in which functions made by Scope find Fiber's.
func withContext(c fiber.Ctx) context.Context {
	return context.WithValue(c.Context(), appContext{}, c)
}
