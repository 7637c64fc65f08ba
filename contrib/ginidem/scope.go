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

// Scope makes a [httpidem.ScopeFunc] from a function that reads gin's context. Use it for
// authentication that stores the caller's name in c.Keys. The function is called with the context
// of the chain in front of [New] and must not write an answer. [httpidem.ScopeFunc] says what the
// name must be like.
func Scope(scope func(c *gin.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		x, ok := r.Context().Value(engineContext{}).(*exchange)
		if !ok {
			return "", errElsewhere
		}
		return scope(x.context)
	}
}

// withExchange returns a request in which functions made by Scope find the engine's context.
func withExchange(r *http.Request, x *exchange) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), engineContext{}, x))
}
