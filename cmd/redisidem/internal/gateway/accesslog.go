package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// requestLog is the context of a request, which collects values for the access log, and the writer
// of its response.
type requestLog struct {
	context.Context
	counter responseCounter

	// untrustedPeer is set if the request was refused because only trusted proxies name callers.
	untrustedPeer bool

	result httpidem.Result
	key    string // the ID of its key, which Redis has too; empty without one
	route  string // the pattern of its route, as a label
	// interrupted is set if the request was refused because the outcome of an earlier attempt is
	// unknown.
	interrupted bool
	// openAttempt is set if the request was refused because an earlier attempt may be at work.
	openAttempt bool
	// challenges are the WWW-Authenticate values of the upstream for a caller that it does not
	// accept.
	challenges []string
}

type requestLogContext struct{}

// Value implements [context.Context].
func (n *requestLog) Value(key any) any {
	if key == (requestLogContext{}) {
		return n
	}
	return n.Context.Value(key)
}

// requestLogOf returns the requestLog of a context. Without one, it returns one that is not logged.
func requestLogOf(ctx context.Context) *requestLog {
	n, _ := ctx.Value(requestLogContext{}).(*requestLog)
	if n == nil {
		return &requestLog{} // it is discarded
	}
	return n
}

// logged returns a handler that logs and counts each request after its response. A key is logged as
// the digest that Redis has. Scopes, queries and bodies are never logged.
func (g *Gateway) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		n := &requestLog{Context: r.Context(), counter: responseCounter{ResponseWriter: w, draining: &g.readiness.draining}, route: defaultRoute}
		counter := &n.counter
		g.metrics.inFlight.Inc()
		returned := false
		defer func() {
			g.metrics.inFlight.Dec()
			took := time.Since(began)
			status := counter.status
			if status == 0 && returned {
				status = http.StatusOK
			}
			attrs := []slog.Attr{
				slog.String("client", g.trusted.client(r)), slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()), slog.Int("status", status),
				slog.Int64("bytes", counter.bytes), slog.Duration("took", took),
			}
			if !returned {
				attrs = append(attrs, slog.Bool("aborted", true)) // the response broke off; the status is 0 if nothing was sent
			}
			if n.result != 0 {
				attrs = append(attrs, slog.String("result", n.resultLabel()))
			}
			if n.key != "" {
				attrs = append(attrs, slog.String("key", n.key))
			}
			g.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
			replayed := strconv.FormatBool(n.result == httpidem.ResultReplayed)
			observe(r.Context(), g.metrics.requests.WithLabelValues(methodLabel(r.Method), strconv.Itoa(status), replayed), took.Seconds())
			g.metrics.count(r.Context(), n, took)
		}()
		next.ServeHTTP(counter, r.WithContext(n))
		if counter.status == 0 {
			counter.closeIfDraining() // the server sends the header now
		}
		returned = true
	})
}

// methodLabel returns a method as a label. Unknown methods share one, since clients can invent any
// number of them.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// responseCounter records the status and counts the bytes of a response. While the gateway drains,
// it asks the client to connect again.
type responseCounter struct {
	http.ResponseWriter
	draining *atomic.Bool
	status   int
	bytes    int64
}

func (m *responseCounter) WriteHeader(status int) {
	if m.status == 0 && status >= 200 {
		m.status = status
		m.closeIfDraining()
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *responseCounter) Write(p []byte) (int, error) {
	if m.status == 0 {
		m.status = http.StatusOK
		m.closeIfDraining()
	}
	n, err := m.ResponseWriter.Write(p)
	m.bytes += int64(n)
	return n, err
}

// closeIfDraining sends the client's next request to another replica if the gateway drains. That is
// decided when the header is sent: a request may have begun before the drain.
func (m *responseCounter) closeIfDraining() {
	if m.draining.Load() {
		m.Header().Set("Connection", "close")
	}
}

// Unwrap lets [http.ResponseController] reach the underlying writer.
func (m *responseCounter) Unwrap() http.ResponseWriter { return m.ResponseWriter }
