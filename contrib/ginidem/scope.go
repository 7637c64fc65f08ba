package ginidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// engineContext is the key of the exchange in a request's context.
type engineContext struct{}

var errElsewhere = errors.New("ginidem: the scope function was called for a request that did not come through New")

// Scope returns a [httpidem.ScopeFunc] that calls a function with gin's context. Use it if
// authentication stores the caller's name in c.Keys. The context is that of the chain in front of
// [New]. The function must not write a response, and is called concurrently. See
// [httpidem.ScopeFunc] for the name that it returns.
func Scope(scope func(c *gin.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		x, ok := r.Context().Value(engineContext{}).(*exchange)
		if !ok {
			return "", errElsewhere
		}
		return scope(x.context)
	}
}

// withExchange returns a request whose context has the exchange, for Scope.
func withExchange(r *http.Request, x *exchange) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), engineContext{}, x))
}
