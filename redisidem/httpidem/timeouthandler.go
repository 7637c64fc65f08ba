package httpidem

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// TimeoutHandler returns a handler like that of [Middleware.Handler], whose clients wait for next
// for at most limit. Then the client is answered with 504, as [ResultTimedOut], and next continues
// under its lease. Retries are answered with 409 until next has returned, and then with its
// response. next continues for at most the service's MaxHold, and Service.Close waits for it.
//
// The limit counts from the start of next until it returns, or sends a part of its response. It
// applies only to requests with a key that run under a lease. A limit of zero or less is no limit.
//
// next runs in a goroutine of its own. Its writer supports [http.Flusher] and [http.Hijacker], and
// no deadlines. With Config.CancelWithClient its context ends when the client is answered. A panic
// after that ends only next. The second event of the request has Event.Late.
func (m *Middleware) TimeoutHandler(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next, limit) })
}

// serveWithin is serve for a client that waits for the handler for a limited time.
func (e *handlerRun) serveWithin(limit time.Duration) {
	w, r := e.w, e.r
	d := &detachableWriter{w: w, header: w.Header().Clone(), limit: limit, detached: make(chan struct{})}
	// The goroutine may outlive the request, and the server reuses both: it gets copies.
	e.w, e.r, e.detachable = d, r.WithContext(r.Context()), d
	ended := make(chan struct{})
	returned := false
	var panicValue any
	go func() {
		defer close(ended)
		defer e.release()
		defer func() {
			panicValue = recover()
			if e.late && e.r.MultipartForm != nil {
				_ = e.r.MultipartForm.RemoveAll() // the server removes only its own request's form
			}
		}()
		e.serve()
		returned = true
	}()
	select {
	case <-ended:
	case <-d.detached:
	}
	if d.isDetached() {
		e.refuseTo(w, r, e.middleware.problem(ResultTimedOut), nil)
		return
	}
	r.Pattern, r.MultipartForm = e.r.Pattern, e.r.MultipartForm
	if returned {
		refill(w.Header(), d.header) // for trailers, and for outer code that reads fields afterwards
		return
	}
	if panicValue == nil { // runtime.Goexit, which must not look like an empty response
		panicValue = http.ErrAbortHandler
	}
	panic(panicValue)
}

// detachableWriter is a ResponseWriter that discards the response after the client got another one.
// Its header map is its own until the response is sent.
type detachableWriter struct {
	w        http.ResponseWriter
	header   http.Header
	limit    time.Duration
	detached chan struct{}

	mu    sync.Mutex
	timer *time.Timer
	fixed bool // the client gets the response of the handler
	left  bool // the client got another response
}

var (
	_ http.Flusher  = (*detachableWriter)(nil)
	_ http.Hijacker = (*detachableWriter)(nil)
)

var errDetached = errors.New("httpidem: the client was answered before")

// start starts the client's time.
func (d *detachableWriter) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = time.AfterFunc(d.limit, d.detach)
}

func (d *detachableWriter) detach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.fixed {
		d.left = true
		close(d.detached)
	}
}

// attach stops the client's time, and reports whether the client still waits for this response.
func (d *detachableWriter) attach() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fixed = !d.left
	if d.timer != nil {
		d.timer.Stop()
	}
	return d.fixed
}

func (d *detachableWriter) isDetached() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left
}

// Header implements [http.ResponseWriter].
func (d *detachableWriter) Header() http.Header { return d.header }

// WriteHeader implements [http.ResponseWriter].
func (d *detachableWriter) WriteHeader(status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left {
		return
	}
	d.fixed = d.fixed || status >= 200 || status == http.StatusSwitchingProtocols
	refill(d.w.Header(), d.header)
	d.w.WriteHeader(status)
}

// Write implements [http.ResponseWriter]. The capture has called WriteHeader before.
func (d *detachableWriter) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left {
		return 0, errDetached
	}
	return d.w.Write(p) //nolint:gosec // what it is and whether it is safe is the handler's to say
}

// Flush implements [http.Flusher].
func (d *detachableWriter) Flush() { _ = d.FlushError() }

// FlushError is the Flush that [http.ResponseController] calls.
func (d *detachableWriter) FlushError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left {
		return errDetached
	}
	return http.NewResponseController(d.w).Flush()
}

// Hijack implements [http.Hijacker].
func (d *detachableWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left {
		return nil, nil, errDetached
	}
	conn, rw, err := http.NewResponseController(d.w).Hijack()
	d.fixed = d.fixed || err == nil
	return conn, rw, err
}
