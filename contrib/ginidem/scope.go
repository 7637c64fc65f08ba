package ginidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// engineContext is the key under which a request's context has its exchange.
type engineContext struct{}

var errElsewhere = errors.New("ginidem: a scope function for gin was asked about a request that did not come through New")

// Scope makes a [httpidem.ScopeFunc] of a function that looks at gin's context: for authentication
// that leaves the caller's name in c.Keys. It is called with the context as the chain in front of
// [New] has it, and must not write an answer. What the name must be like is told with
// [httpidem.ScopeFunc].
func Scope(scope func(c *gin.Context) (string, error)) httpidem.ScopeFunc {
	return func(r *http.Request) (string, error) {
		x, ok := r.Context().Value(engineContext{}).(*exchange)
		if !ok {
			return "", errElsewhere
		}
		return scope(x.context)
	}
}

// withExchange returns a request for which functions made by Scope find the engine's context.
func withExchange(r *http.Request, x *exchange) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), engineContext{}, x))
}
