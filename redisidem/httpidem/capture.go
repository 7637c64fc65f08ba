package httpidem

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// capture is the ResponseWriter of the handler. It holds the response back until the store has
// acknowledged it. A response that cannot be stored is sent as it is written.
//
// The header map is that of the underlying writer. Code outside and inside of the middleware
// therefore shares one map, as it does without the middleware.
type capture struct {
	w       http.ResponseWriter
	request *keyedRequest // sets the fields of the middleware in a header
	limit   int
	flush   bool           // Flush sends the response, unless the client got another one
	before  headerSnapshot // the header from before the handler ran

	mu           sync.Mutex
	status       int            // 0 until WriteHeader
	held         headerSnapshot // the header at WriteHeader
	body         []byte
	length       int64 // declared by the handler, or -1
	written      int64
	flushSkipped bool // a Flush was ignored
	streaming    bool // the response is sent as it is written
	hijacked     bool
	done         bool // the handler has returned
}

var (
	_ http.Flusher    = (*capture)(nil)
	_ http.Hijacker   = (*capture)(nil)
	_ io.ReaderFrom   = (*capture)(nil)
	_ io.StringWriter = (*capture)(nil)
)

var errReturned = errors.New("httpidem: the handler has already returned")

// Header implements [http.ResponseWriter].
func (c *capture) Header() http.Header { return c.w.Header() }

// Unwrap lets [http.ResponseController] reach the underlying writer.
func (c *capture) Unwrap() http.ResponseWriter { return c.w }

// WriteHeader implements [http.ResponseWriter]. Informational responses are sent at once.
func (c *capture) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done || c.hijacked:
	case c.status != 0:
		if c.streaming {
			c.w.WriteHeader(status) // the server logs the superfluous call
		}
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	case status < 200 && status != http.StatusSwitchingProtocols:
		c.w.WriteHeader(status)
	default:
		c.begin(status)
		if status == http.StatusSwitchingProtocols {
			c.startStreaming()
		}
	}
}

// begin fixes the status, the header and the declared length. The caller holds mu.
func (c *capture) begin(status int) {
	h := c.w.Header()
	c.status, c.length = status, -1
	c.held.take(h)
	if text := h.Get("Content-Length"); text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			c.length = n
		}
	}
}

// header returns the header of the response, which the caller must not change.
func (c *capture) header() http.Header {
	if live := c.w.Header(); c.held.equal(live) {
		return live
	}
	return c.held.header() // the map was changed after WriteHeader
}

// Write implements [http.ResponseWriter], with the same errors as the writer of net/http.
func (c *capture) Write(p []byte) (int, error) { return c.write(len(p), p, "") }

// WriteString implements [io.StringWriter].
func (c *capture) WriteString(s string) (int, error) { return c.write(len(s), nil, s) }

func (c *capture) write(n int, p []byte, s string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done:
		return 0, errReturned
	case c.hijacked:
		return 0, http.ErrHijacked
	}
	if c.status == 0 {
		c.begin(http.StatusOK)
	}
	if !c.streaming {
		switch {
		case n == 0:
			return 0, nil
		case !bodyAllowed(c.status):
			return 0, http.ErrBodyNotAllowed
		}
		c.written += int64(n)
		if c.length >= 0 && c.written > c.length {
			return 0, http.ErrContentLength
		}
		if len(c.body)+n <= c.limit {
			if c.body == nil && c.length > int64(n) {
				c.body = make([]byte, 0, min(c.length, int64(c.limit)))
			}
			c.body = append(append(c.body, p...), s...)
			return n, nil
		}
		c.startStreaming()
	}
	if p == nil {
		return io.WriteString(c.w, s)
	}
	return c.w.Write(p)
}

// ReadFrom implements [io.ReaderFrom]. Once the response is streamed, the server can use sendfile.
func (c *capture) ReadFrom(r io.Reader) (int64, error) {
	c.mu.Lock()
	through := c.streaming && !c.done && !c.hijacked
	c.mu.Unlock()
	if through {
		return io.Copy(c.w, r)
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// Flush implements [http.Flusher].
func (c *capture) Flush() { _ = c.FlushError() }

// FlushError is the Flush that [http.ResponseController] calls.
func (c *capture) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done:
		return errReturned
	case c.hijacked:
		return http.ErrHijacked
	case !canFlush(c.w):
		return http.ErrNotSupported
	}
	if c.status == 0 {
		c.begin(http.StatusOK)
	}
	if !c.streaming {
		if d, ok := c.w.(*detachableWriter); !c.flush || ok && d.isDetached() {
			c.flushSkipped = true
			return nil
		}
		c.startStreaming()
	}
	return http.NewResponseController(c.w).Flush()
}

// canFlush reports whether http.ResponseController can flush a writer.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// Hijack implements [http.Hijacker]. After a success the handler owns the connection, and a
// response that was held back is dropped.
func (c *capture) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil, nil, errReturned
	}
	conn, rw, err := http.NewResponseController(c.w).Hijack()
	if err == nil {
		c.hijacked, c.body = true, nil
	}
	return conn, rw, err
}

// startStreaming sends the part that was held back. Later writes are sent directly. The caller
// holds mu.
func (c *capture) startStreaming() {
	c.streaming = true
	c.sendHeld()
	c.body = nil
}

// sendHeld sends the header and the body that were held back. It then repeats the handler's later
// changes to the header map, since the server reads trailers from there. Changes that outer writers
// made while the header was sent stay. The caller holds mu.
func (c *capture) sendHeld() {
	live := c.w.Header()
	var held, latest http.Header
	if !c.held.equal(live) {
		held, latest = c.held.header(), live.Clone()
		refill(live, held)
	}
	c.request.setOwnFields(live)
	c.w.WriteHeader(c.status)
	if len(c.body) > 0 {
		// The client may have disconnected. This does not change the outcome.
		_, _ = c.w.Write(c.body) //nolint:gosec // what it is and whether it is safe is the handler's to say
	}
	if c.flushSkipped { // without a Content-Length the server can send undeclared trailers
		_ = http.NewResponseController(c.w).Flush() // FlushError has checked that it can
	}
	for name := range held {
		if _, left := latest[name]; !left {
			delete(live, name)
		}
	}
	for name, values := range latest {
		if before, was := held[name]; !was || !slices.Equal(values, before) {
			live[name] = values
		}
	}
	c.request.setOwnFields(live) // for outer code that reads the header afterwards
}

// finish ends the handler's access. Later calls of the handler change nothing.
func (c *capture) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 && !c.hijacked {
		c.begin(http.StatusOK)
	}
	c.done = true
}

// send sends the response that was held back.
func (c *capture) send() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendHeld()
}

// discard drops the handler's response and restores the header from before the handler ran.
func (c *capture) discard() { refill(c.w.Header(), c.before.header()) }

// isSent reports whether any part of the response was sent, or the connection was hijacked. Another
// response is impossible then.
func (c *capture) isSent() bool { return c.streaming || c.hijacked }

// isIncomplete reports whether the handler wrote less than the Content-Length it declared. The
// server then breaks the connection.
func (c *capture) isIncomplete(method string) bool {
	return !c.isSent() && method != http.MethodHead && bodyAllowed(c.status) && c.length >= 0 && c.written < c.length
}

// refill makes h hold exactly the fields of with.
func refill(h, with http.Header) {
	clear(h)
	maps.Copy(h, with)
}

// bodyAllowed reports whether a response with the given status can have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
