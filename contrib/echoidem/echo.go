package echoidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns an Echo middleware that runs what is behind it once for each key, and gives its
// answer again to each retry. The Middleware says how; several servers and routes may share one. It
// panics if m is nil.
//
// For what is behind it c.Response() holds the answer back, and c.Request() has another context and
// a body that was read already. Both are put back afterwards.
//
// An error from behind is answered by the HTTPErrorHandler before the answer is stored, and then
// returned. If the handler of errors writes nothing, the answer is an empty 500: an error is never
// stored as an empty success. The same goes for a request that runs unprotected since the store
// gave no answer; an error of one that needs no key and has none is only returned.
//
// A request for which the router has no route goes through unprotected, and its error, too. If a
// route of RouteNotFound is there for it, its answer is stored like any other, since its handler
// may do work; but no 404 or 405, and then the attempt does not count, so that a route that is
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

// unknown reports whether the router found no route at all.
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

// front is the writer that the middleware in front has, as this package knows it again.
type front struct{ http.ResponseWriter }

// Unwrap is for [http.ResponseController].
func (w *front) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// exchange is one request on its way through the middleware.
type exchange struct {
	context *echo.Context
	// writer and request are as the middleware in front has them.
	writer  http.ResponseWriter
	request *http.Request

	next echo.HandlerFunc
	err  error // of next
}

// serve runs what is behind the middleware.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	c := x.context
	c.SetRequest(r)
	defer c.SetRequest(x.request)
	if _, own := w.(*front); own { // the middleware has nothing to do with the answer
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

// status returns the status of an answer that nothing behind the middleware has named another one
// for.
func (x *exchange) status() int {
	if response, err := echo.UnwrapResponse(x.writer); err == nil {
		return response.Status
	}
	return http.StatusOK
}

// serverContext is the key under which a request's context has Echo's.
type serverContext struct{}

var errElsewhere = errors.New("echoidem: a scope function for Echo was asked about a request that did not come through New")

// Scope makes a [httpidem.ScopeFunc] of a function that looks at Echo's context: for authentication
// that leaves the caller's name there, with c.Set. It is called with the context as the middleware
// in front of [New] has it, and must not write an answer. What the name must be like is told with
// [httpidem.ScopeFunc].
func Scope(scope func(c *echo.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		c, ok := r.Context().Value(serverContext{}).(*echo.Context)
		if !ok {
			return "", errElsewhere
		}
		return scope(c)
	}
}

// withContext returns a request for which functions made by Scope find the context.
func withContext(r *http.Request, c *echo.Context) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), serverContext{}, c))
}
