package httpidem

import (
	"errors"
	"io"
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// passTooLarge returns the verdict about a request whose body is too large: oversize if its key has
// no record. A record was made under a larger limit, and its request must not run again. cause is
// the error of the body.
func (x *keyedRequest) passTooLarge(cause error) verdict {
	_, err := x.scope.Retrieve(x.r.Context(), x.key)
	switch {
	case errors.Is(err, redisidem.ErrNotFound):
		return oversize
	case err == nil:
		x.refuseBody(cause)
	case x.failsOpen(err):
		x.opened = err
		return oversize
	default:
		x.fail(err, false)
	}
	return refused
}

// serveOversize runs a handler without protection. The whole body is readable again, and the
// response has no fields of a request with a key.
func (x *keyedRequest) serveOversize(next http.Handler) {
	rest := x.r.Body
	x.r.Body = &readCloser{io.MultiReader(x.body.Reader(), rest), rest}
	x.removeOwnFields(x.w.Header())
	if x.opened != nil {
		x.observe(ResultOpened, 0, x.opened)
	} else {
		x.observe(ResultOversize, 0, nil)
	}
	next.ServeHTTP(x.w, x.r)
}
