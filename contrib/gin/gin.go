package ginidem

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// New returns a gin middleware that runs the rest of the chain once for each key, and gives its answer again to each retry. The
// Middleware says how; several engines and routes may share one. It panics if m is nil.
//
// For the rest of the chain c.Writer holds the answer back, and c.Request has another context and a body that was read already.
// Both are put back afterwards. When the middleware answers by itself, the rest of the chain is aborted.
//
// An answer that consists of nothing but errors in c.Errors is not complete: some middleware further out is going to write it, where
// it cannot be stored. When the rest of the chain has added to c.Errors, has written no body, and has not set a status below 400, its
// answer is therefore left to the outside and not stored, and the key is given back as if the chain had panicked: a retry runs it
// again, unless Config.Status keeps 500, which makes retries get [httpidem.Gone]. The middleware counts it as
// [httpidem.Panicked]. To have the answers to errors stored, put whatever writes them behind New.
func New(m *httpidem.Middleware) gin.HandlerFunc {
	if m == nil {
		panic("ginidem: the Middleware must not be nil")
	}
	return func(c *gin.Context) {
		x := exchange{context: c, writer: c.Writer, request: c.Request}
		x.serve(m)
	}
}

// exchange is one request on its way through the middleware.
type exchange struct {
	context *gin.Context
	// writer and request are as the chain in front of the middleware has them.
	writer  gin.ResponseWriter
	request *http.Request

	began bool    // the rest of the chain
	left  *writer // what the chain wrote to, if its answer is left to the outside
}

// leaving is what the chain ends with when its answer comes from the outside: to package httpidem that is a panic, which gives the
// key back and sends nothing.
type leaving struct{}

func (x *exchange) serve(m *httpidem.Middleware) {
	defer func() {
		if x.left == nil {
			return // a panic of the chain's own goes on untouched
		}
		_ = recover() // leaving
		x.writer.WriteHeader(x.left.status)
		if x.left.Written() {
			x.writer.WriteHeaderNow()
		}
	}()
	m.Handler(http.HandlerFunc(x.next)).ServeHTTP(x.writer, withContext(x.request, x.context))
	if !x.began {
		x.context.Abort()
	}
}

// next runs the rest of the chain.
func (x *exchange) next(w http.ResponseWriter, r *http.Request) {
	c := x.context
	x.began = true
	c.Request = r
	defer func() { c.Request = x.request }()
	if _, own := w.(gin.ResponseWriter); own { // the middleware has nothing to do with the answer
		c.Next()
		return
	}
	held := &writer{ResponseWriter: x.writer, to: w, status: http.StatusOK, size: unwritten}
	c.Writer = held
	defer func() { c.Writer = x.writer }()
	before := len(c.Errors)
	c.Next()
	if len(c.Errors) > before && !held.answers() {
		x.left = held
		panic(leaving{})
	}
	held.WriteHeaderNow()
}
