package contender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

var (
	httpBare = Kind{
		Name: "http", Title: "HTTP, bare handler",
		About: "A handler over HTTP without idempotency: the cost of the HTTP server and client alone.",
		Open: func(ctx context.Context, dial Dial, _ string) (Contender, error) {
			return serve(ctx, dial, nil, func(h http.Handler) (http.Handler, error) { return h, nil })
		},
	}
	httpFloor = Kind{
		Name: "http-floor", Title: "HTTP, two bare commands",
		About: "The same handler with SET NX before and SET after its work, in its own code: nothing is compared, nothing is replayed.",
		Open:  overHTTP(floorPlain),
	}
	httpFloorAuto = Kind{
		Name: "http-floor-auto", Title: "HTTP, two bare commands, auto-pipelined",
		About: "The same two commands over go-redis's auto-pipeliner.",
		Open:  overHTTP(floorAuto),
	}
	httpMiddleware = Kind{
		Name: "http-redisidem", Title: "HTTP, redisidem",
		About: "The bare handler behind httpidem: key, fingerprint and answer are kept, repetitions are replayed, a crash is survived.",
		Own:   true, Replays: true,
		Open: behindMiddleware(redisidemPlain),
	}
	httpMiddlewareAuto = Kind{
		Name: "http-redisidem-auto", Title: "HTTP, redisidem, auto-pipelined",
		About: "The same with Config.AutoPipeline.",
		Own:   true, Replays: true,
		Open: behindMiddleware(redisidemAuto),
	}
)

// overHTTP creates a contender whose handler uses another contender.
func overHTTP(inner Kind) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		g, err := inner.Open(ctx, dial, prefix)
		if err != nil {
			return nil, err
		}
		return serve(ctx, dial, g, func(http.Handler) (http.Handler, error) { return nil, nil }) //nolint:nilnil // the handler of this contender
	}
}

// behindMiddleware creates a contender whose handler is wrapped in the library's middleware.
func behindMiddleware(inner Kind) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		g, err := inner.Open(ctx, dial, prefix)
		if err != nil {
			return nil, err
		}
		return serve(ctx, dial, g, func(h http.Handler) (http.Handler, error) {
			m, err := httpidem.New(Service(g), httpidem.Unscoped, nil)
			if err != nil {
				return nil, err
			}
			return m.Handler(h), nil
		})
	}
}

// httpContender sends requests to a server, usually its own in this process, and reads the
// responses.
type httpContender struct {
	inner  Contender    // may be nil
	server *http.Server // nil if the server is another process
	client *http.Client
	url    string

	mu    sync.Mutex
	works map[string]*errand // by key: the work of requests in flight
}

// errand is the work of all in-flight requests of one key, which is the same for all.
type errand struct {
	work    Work
	callers int
}

// enter registers the work of a request for the handler.
func (g *httpContender) enter(key string, work Work) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.works[key]
	if e == nil {
		e = &errand{}
		g.works[key] = e
	}
	e.work = work
	e.callers++
}

// leave removes the work when the last request that waits for it has ended.
func (g *httpContender) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.works[key]
	e.callers--
	if e.callers == 0 {
		delete(g.works, key)
	}
}

// newHTTPContender creates a contender without a server.
func newHTTPContender(dial Dial, inner Contender) *httpContender {
	return &httpContender{
		inner: inner, works: make(map[string]*errand),
		client: &http.Client{Timeout: patience, Transport: &http.Transport{
			MaxIdleConnsPerHost: dial.Callers(), IdleConnTimeout: time.Minute, DisableCompression: true,
		}},
	}
}

// serve starts the server. wrap makes the handler from the bare one. If inner is not nil, the bare
// handler does its work through it.
func serve(ctx context.Context, dial Dial, inner Contender, wrap func(http.Handler) (http.Handler, error)) (Contender, error) {
	g := newHTTPContender(dial, inner)
	handler, err := wrap(http.HandlerFunc(g.handle))
	if handler == nil {
		handler = http.HandlerFunc(g.handleInner)
	}
	var listener net.Listener
	if err == nil {
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		if inner != nil {
			err = errors.Join(err, inner.Close())
		}
		return nil, err
	}
	g.url = "http://" + listener.Addr().String()
	g.server = &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	go func() { _ = g.server.Serve(listener) }() // ends with Close
	return g, nil
}

// handle does the request's work.
func (g *httpContender) handle(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.write(w)(g.workOf(r)(r.Context()))
}

// handleInner does the request's work through the inner contender.
func (g *httpContender) handleInner(w http.ResponseWriter, r *http.Request) {
	params, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := r.Header.Get(idemheader.Key)
	body, _, err := g.inner.Do(r.Context(), Request{Key: key, Method: r.Method, Path: r.URL.Path, Params: params}, g.workOf(r))
	g.write(w)(body, err)
}

// workOf returns the work that the caller of a request has registered.
func (g *httpContender) workOf(r *http.Request) Work {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.works[r.Header.Get(idemheader.Key)]; e != nil {
		return e.work
	}
	return func(context.Context) ([]byte, error) { return nil, errors.New("this request was not sent before") }
}

func (g *httpContender) write(w http.ResponseWriter) func(body []byte, err error) {
	return func(body []byte, err error) {
		switch {
		case errors.Is(err, ErrInFlight):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(body) // a write to a client that has left returns an error
		}
	}
}

// Do implements [Contender].
func (g *httpContender) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	var failed atomic.Pointer[error] // of the work, which HTTP cannot carry
	g.enter(r.Key, func(ctx context.Context) ([]byte, error) {
		body, err := work(ctx)
		failed.Store(&err)
		return body, err
	})
	defer g.leave(r.Key)
	req, err := http.NewRequestWithContext(ctx, r.Method, g.url+r.Path, bytes.NewReader(r.Params))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set(idemheader.Key, r.Key)
	res, err := g.client.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = res.Body.Close() }() // the body was read
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, false, err
	case res.StatusCode == http.StatusConflict:
		return nil, false, ErrInFlight
	case res.StatusCode == http.StatusInternalServerError && failed.Load() != nil && *failed.Load() != nil:
		return nil, false, *failed.Load()
	case res.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("answered with %d: %s", res.StatusCode, body)
	}
	return body, res.Header.Get(idemheader.Replayed) == "true", nil
}

// Close implements [Contender].
func (g *httpContender) Close() error {
	var err error
	if g.server != nil {
		err = g.server.Close()
	}
	g.client.CloseIdleConnections()
	if g.inner != nil {
		err = errors.Join(err, g.inner.Close())
	}
	return err
}
