package ginidem

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"
)

// unwritten is the size of a response whose header was not written.
const unwritten = -1

// writer makes the writer that holds the response back behave like gin's ResponseWriter: the status
// can change until the header is written. The engine's writer provides CloseNotify and Pusher.
type writer struct {
	gin.ResponseWriter
	to     http.ResponseWriter
	status int
	size   int
	set    bool // the chain has set a status
	sent   bool // the chain has flushed, or hijacked the connection
}

var (
	_ gin.ResponseWriter = (*writer)(nil)
	_ io.StringWriter    = (*writer)(nil)
)

// Header implements [http.ResponseWriter].
func (w *writer) Header() http.Header { return w.to.Header() }

// Unwrap lets [http.ResponseController] reach the underlying writer.
func (w *writer) Unwrap() http.ResponseWriter { return w.to }

// Status implements [gin.ResponseWriter].
func (w *writer) Status() int { return w.status }

// Size implements [gin.ResponseWriter].
func (w *writer) Size() int { return w.size }

// Written implements [gin.ResponseWriter].
func (w *writer) Written() bool { return w.size != unwritten }

// WriteHeader implements [http.ResponseWriter]. As in gin, the status can change until the header
// is written.
func (w *writer) WriteHeader(status int) {
	if status > 0 && !w.Written() {
		w.status, w.set = status, true
	}
}

// WriteHeaderNow implements [gin.ResponseWriter].
func (w *writer) WriteHeaderNow() {
	if !w.Written() {
		w.size = 0
		w.to.WriteHeader(w.status)
	}
}

// Write implements [http.ResponseWriter].
func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeaderNow()
	n, err := w.to.Write(p)
	w.size += n
	return n, err
}

// WriteString implements [gin.ResponseWriter].
func (w *writer) WriteString(s string) (int, error) {
	w.WriteHeaderNow()
	n, err := io.WriteString(w.to, s)
	w.size += n
	return n, err
}

// Flush implements [http.Flusher].
func (w *writer) Flush() {
	w.sent = true
	w.WriteHeaderNow()
	_ = http.NewResponseController(w.to).Flush() // gin's Flush cannot return an error
}

var errWritten = errors.New("ginidem: the answer has already begun")

// Hijack implements [http.Hijacker]. As in gin, it returns an error if the response has a body.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.size > 0 {
		return nil, nil, errWritten
	}
	conn, rw, err := http.NewResponseController(w.to).Hijack()
	if err == nil {
		w.sent, w.size = true, max(w.size, 0)
	}
	return conn, rw, err
}

// answers reports whether the chain has written a response, so that a middleware in front must not
// answer for its errors.
func (w *writer) answers() bool {
	return w.size > 0 || w.sent || w.set && w.status < http.StatusBadRequest
}
