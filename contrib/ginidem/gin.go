package ginidem

import (
	"net/http"
	"reflect"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns a gin middleware that runs the rest of the chain once for each key, and answers
// retries with the same response. Several engines and routes may share a Middleware. New panics if
// m is nil. The returned function may be called concurrently.
//
// For the rest of the chain, c.Writer holds the response back, and c.Request has another context
// and a body that was read before. Both are restored afterwards. If the middleware answers itself,
// the rest of the chain is aborted.
//
// A response that consists only of c.Errors is incomplete, since a middleware in front will write
// it and it cannot be stored. This applies if the rest of the chain has added to c.Errors, has
// written no body, and has not set a status below 400. The response is then left to the middleware
// in front and is not stored, and a retry runs the chain again. If Config.Response.Status keeps
// 500, retries are answered with [httpidem.ResultGone] instead. To store responses to errors, place
// the middleware that writes them behind New.
//
// A request without a route is answered by the engine itself, or by the handlers of NoRoute and
// NoMethod. A 404 or 405 is not stored then, and the attempt does not count, so that a route that
// is deployed later runs. Any other response of these handlers is stored, because they may do work.
// If New is the last handler, the request is not protected.
func New(m *httpidem.Middleware) gin.HandlerFunc {
	if m == nil {
		panic("ginidem: the Middleware must not be nil")
	}
	var handler gin.HandlerFunc
	handler = func(c *gin.Context) {
		if x, ok := c.Request.Context().Value(engineContext{}).(*exchange); ok && x.lostWriter() {
			x.left = x.held
			panic("ginidem: Engine.HandleContext must be called in front of New, not behind it")
		}
		if c.FullPath() == "" && sameCode(c.Handler(), handler) {
			c.Next() // there is no route, and no other handler that could do work
			return
		}
		x := exchange{context: c, writer: c.Writer, request: c.Request}
		x.serve(m)
	}
	return handler
}

func sameCode(a, b gin.HandlerFunc) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// exchange is one request that passes through the middleware.
type exchange struct {
	context *gin.Context
	// writer and request are those of the chain in front of the middleware.
	writer  gin.ResponseWriter
	request *http.Request

	began bool    // the rest of the chain has started
	held  *writer // the writer of the rest of the chain, while it runs
	left  *writer // the same writer, if the chain in front has to write the response
}

// lostWriter reports whether the rest of the chain is running and its response bypasses the
// middleware. Engine.HandleContext causes that.
func (x *exchange) lostWriter() bool {
	return x.held != nil && x.context.Writer == x.writer
}

func (x *exchange) serve(m *httpidem.Middleware) {
	m.Handler(http.HandlerFunc(x.next)).ServeHTTP(x.writer, withExchange(x.request, x))
	switch {
	case !x.began:
		x.context.Abort()
	case x.left != nil && !x.writer.Written():
		x.writer.WriteHeader(x.left.status)
		if x.left.Written() {
			x.writer.WriteHeaderNow()
		}
	}
}

// next runs the rest of the chain.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	c := x.context
	x.began = true
	c.Request = r
	defer func() { c.Request = x.request }()
	if _, own := w.(gin.ResponseWriter); own { // the response is not held back
		c.Next()
		return
	}
	held := &writer{ResponseWriter: x.writer, to: w, status: x.writer.Status(), size: unwritten}
	c.Writer, x.held = held, held
	defer func() { c.Writer, x.held = x.writer, nil }()
	before := len(c.Errors)
	c.Next()
	unrouted := c.FullPath() == "" && (held.status == http.StatusNotFound || held.status == http.StatusMethodNotAllowed)
	if unrouted {
		httpidem.NothingDone(r.Context())
	}
	if unrouted && !held.Written() || len(c.Errors) > before && !held.answers() {
		x.left = held
	}
	if x.left != nil {
		httpidem.AnsweredOutside(r.Context())
		return
	}
	held.WriteHeaderNow()
}
