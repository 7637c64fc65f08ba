package echoidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns an Echo middleware that runs the handlers behind it once for each key and replays
// their answer to each retry. The Middleware has the settings; several servers and routes may share
// one. New panics if m is nil.
//
// Behind it, c.Response() holds the answer back, and c.Request() has another context and a body
// that was read already. Both are restored afterwards.
//
// The HTTPErrorHandler answers an error from behind before the answer is stored. The error is then
// returned. If the HTTPErrorHandler writes nothing, the answer is an empty 500: an error is never
// stored as an empty success. The same holds for a request that runs unprotected because the store
// gave no answer. The error of a request that needs no key and has none is only returned.
//
// A request for which the router has no route goes through unprotected, and so does its error. If
// RouteNotFound has a handler for it, the answer is stored like any other, because the handler may
// do work. A 404 or 405 is not stored then, and the attempt does not count, so that a route that is
// deployed later runs. Groups with middleware have such routes of their own.
func New(m *httpidem.Middleware) echo.MiddlewareFunc {
	if m == nil {
		panic("echoidem: the Middleware must not be nil")
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if unknown(c.RouteInfo()) {
				return next(c)
			}
			x := exchange{context: c, writer: c.Response(), request: c.Request(), next: next}
			m.Handler(http.HandlerFunc(x.serve)).ServeHTTP(&front{x.writer}, withContext(x.request, c))
			return x.err
		}
	}
}

// unknown reports whether the router found no route.
func unknown(route echo.RouteInfo) bool {
	return route.Name == echo.NotFoundRouteName || route.Name == echo.MethodNotAllowedRouteName
}

// unrouted reports whether a status is the router's answer, and not that of a route for this path
// and method.
func unrouted(c *echo.Context, status int) bool {
	if status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		return false
	}
	route := c.RouteInfo()
	return route.Method == echo.RouteNotFound || unknown(route) // found after Pre
}

// front is the writer of the middleware in front, in a type by which this package recognises it.
type front struct{ http.ResponseWriter }

// Unwrap returns the writer for [http.ResponseController].
func (w *front) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// exchange is one request that passes through the middleware.
type exchange struct {
	context *echo.Context
	// writer and request are those of the middleware in front.
	writer  http.ResponseWriter
	request *http.Request

	next echo.HandlerFunc
	err  error // of next
}

// serve runs the handlers behind the middleware.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	c := x.context
	c.SetRequest(r)
	defer c.SetRequest(x.request)
	if _, own := w.(*front); own { // the middleware does not hold the answer
		x.err = x.next(c)
		return
	}
	held := echo.NewResponse(w, c.Logger())
	held.Status = x.status()
	c.SetResponse(held)
	defer c.SetResponse(x.writer)
	x.err = x.next(c)
	if x.err != nil && !held.Committed && unrouted(c, echo.StatusCode(x.err)) {
		httpidem.NothingDone(r.Context())
		httpidem.AnsweredOutside(r.Context())
		return
	}
	if x.err != nil {
		c.Echo().HTTPErrorHandler(c, x.err)
	}
	if x.err != nil && !held.Committed {
		held.WriteHeader(http.StatusInternalServerError)
	}
	if held.Committed && unrouted(c, held.Status) {
		httpidem.NothingDone(r.Context())
	}
}

// status returns the status of an answer for which no handler behind the middleware has set
// another.
func (x *exchange) status() int {
	if response, err := echo.UnwrapResponse(x.writer); err == nil {
		return response.Status
	}
	return http.StatusOK
}

// serverContext is the key of Echo's context in a request's context.
type serverContext struct{}

var errElsewhere = errors.New("echoidem: the scope function was called for a request that did not come through New")

// Scope makes a [httpidem.ScopeFunc] from a function that reads Echo's context. Use it for
// authentication that stores the caller's name there, with c.Set. The function is called with the
// context of the middleware in front of [New] and must not write an answer. [httpidem.ScopeFunc]
// says what the name must be like.
func Scope(scope func(c *echo.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		c, ok := r.Context().Value(serverContext{}).(*echo.Context)
		if !ok {
			return "", errElsewhere
		}
		return scope(c)
	}
}

// withContext returns a request in which functions made by Scope find Echo's context.
func withContext(r *http.Request, c *echo.Context) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), serverContext{}, c))
}
