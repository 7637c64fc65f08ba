package echoidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns an Echo middleware that runs the handlers behind it once for each key, and answers
// retries with the same response. Several servers and routes may share a Middleware. New panics if
// m is nil. The returned function may be called concurrently.
//
// For the handlers behind New, c.Response() holds the response back, and c.Request() has another
// context and a body that was read before. Both are restored afterwards.
//
// The HTTPErrorHandler answers an error from behind before the response is stored. The error is
// then returned. If the HTTPErrorHandler writes nothing, the response is an empty 500, so that an
// error is never stored as a success. The same applies to a request that runs unprotected because
// the store gave no answer. The error of a request that has no key and needs none is only returned.
//
// A request without a route is not protected, and its error is returned. If it matches a
// RouteNotFound handler, the response is stored like any other, because the handler may do work. A
// 404 or 405 of such a handler is not stored, and the attempt does not count. A route that is
// deployed later then runs. Groups with middleware add such handlers.
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

// unrouted reports whether a status comes from the router, and not from a route for this path and
// method.
func unrouted(c *echo.Context, status int) bool {
	if status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		return false
	}
	route := c.RouteInfo()
	return route.Method == echo.RouteNotFound || unknown(route) // Echo found the route only after Pre
}

// front is the writer of the middleware in front. Its type shows that the middleware has
// not wrapped it.
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
	if _, own := w.(*front); own { // the response is not held back
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

// status returns the status of a response for which the handlers behind the middleware set none.
func (x *exchange) status() int {
	if response, err := echo.UnwrapResponse(x.writer); err == nil {
		return response.Status
	}
	return http.StatusOK
}

// serverContext is the key of Echo's context in a request's context.
type serverContext struct{}

var errElsewhere = errors.New("echoidem: the scope function was called for a request that did not come through New")

// Scope returns a [httpidem.ScopeFunc] that calls a function with Echo's context. Use it if
// authentication stores the caller's name with c.Set. The context is that of the middleware in
// front of [New]. The function must not write a response, and is called concurrently. See
// [httpidem.ScopeFunc] for the name that it returns.
func Scope(scope func(c *echo.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		c, ok := r.Context().Value(serverContext{}).(*echo.Context)
		if !ok {
			return "", errElsewhere
		}
		return scope(c)
	}
}

// withContext returns a request whose context has Echo's context, for Scope.
func withContext(r *http.Request, c *echo.Context) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), serverContext{}, c))
}
