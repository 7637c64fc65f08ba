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

// capture is the ResponseWriter that the handler gets. It holds the answer back until it is
// committed, or, when it turns out that it cannot be kept, lets it through from then on. The header
// map is the underlying writer's own, so that what stands outside of the middleware and what stands
// inside see the same as without it.
type capture struct {
	w            http.ResponseWriter
	limit        int
	flush        bool              // Flush lets the answer through
	setOwnFields func(http.Header) // puts the middleware's own fields into the header that is sent
	before       http.Header       // as it was when the handler began

	mu           sync.Mutex
	status       int // 0 until WriteHeader
	header       http.Header
	body         []byte
	length       int64 // declared by the handler, or -1
	written      int64
	flushSkipped bool // a Flush was ignored
	streaming    bool // the answer goes to the client as it comes
	hijacked     bool
	done         bool // the handler has returned
}

var (
	_ http.Flusher    = (*capture)(nil)
	_ http.Hijacker   = (*capture)(nil)
	_ io.ReaderFrom   = (*capture)(nil)
	_ io.StringWriter = (*capture)(nil)
)

var errReturned = errors.New("httpidem: the handler has returned")

// Header implements [http.ResponseWriter].
func (c *capture) Header() http.Header { return c.w.Header() }

// Unwrap is for [http.ResponseController].
func (c *capture) Unwrap() http.ResponseWriter { return c.w }

// WriteHeader implements [http.ResponseWriter]. Informational answers are sent at once.
func (c *capture) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done || c.hijacked:
	case c.status != 0:
		if c.streaming {
			c.w.WriteHeader(status) // which complains where the server's log is
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

// begin settles status and header. The caller holds mu.
func (c *capture) begin(status int) {
	c.status, c.header, c.length = status, c.w.Header().Clone(), -1
	if n, err := strconv.ParseInt(c.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		c.length = n
	}
}

// Write implements [http.ResponseWriter], with the errors of net/http's own.
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

// ReadFrom implements [io.ReaderFrom], so that the server can still send files fast.
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

// FlushError is for [http.ResponseController].
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
		if !c.flush {
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

// Hijack implements [http.Hijacker]. Once it succeeded, the answer is the handler's alone.
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

// startStreaming sends what was held back, and everything from now on as it comes. The caller holds
// mu.
func (c *capture) startStreaming() {
	c.streaming = true
	c.sendHeld()
	c.body = nil
}

// sendHeld sends header and body as they were held back, and then does to the header map what the
// handler has done to it since: the server looks there for trailers. What those outside did to it
// on the way stays. The caller holds mu.
func (c *capture) sendHeld() {
	live := c.w.Header()
	latest := live.Clone()
	refill(live, c.header)
	c.setOwnFields(live)
	c.w.WriteHeader(c.status)
	if len(c.body) > 0 {
		// The client may have gone, which changes nothing about what was done.
		_, _ = c.w.Write(c.body) //nolint:gosec // what it is and whether it is safe is the handler's to say
	}
	if c.flushSkipped { // the server then sends no length, and so has a place for trailers that were not declared
		_ = http.NewResponseController(c.w).Flush() // it can: see FlushError
	}
	for name := range c.header {
		if _, left := latest[name]; !left {
			delete(live, name)
		}
	}
	for name, values := range latest {
		if before, was := c.header[name]; !was || !slices.Equal(values, before) {
			live[name] = values
		}
	}
	c.setOwnFields(live) // for what stands outside and looks at the header afterwards
}

// finish ends the handler's access. What it returns does not change any more.
func (c *capture) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 && !c.hijacked {
		c.begin(http.StatusOK)
	}
	c.done = true
}

// send sends the answer that was held back.
func (c *capture) send() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendHeld()
}

// discard forgets the handler's answer: the header is again as it was before.
func (c *capture) discard() { refill(c.w.Header(), c.before) }

// isSent reports whether some of the answer, or all, has left already, so that there is no other
// one to be given.
func (c *capture) isSent() bool { return c.streaming || c.hijacked }

// isIncomplete reports whether the handler wrote less than it declared: the server then breaks the
// connection.
func (c *capture) isIncomplete(method string) bool {
	return !c.isSent() && method != http.MethodHead && bodyAllowed(c.status) && c.length >= 0 && c.written < c.length
}

// refill makes a header map hold exactly what another one holds.
func refill(h, with http.Header) {
	clear(h)
	maps.Copy(h, with)
}

// bodyAllowed reports whether an answer with that status can have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
