package idemclient_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestMain(m *testing.M) { leak.Main(m) }

// serve starts a server that is closed when the test ends.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = quietLog()
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// quietLog discards the errors that tests provoke.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

// created is a handler that answers 201 with a text.
func created(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, text)
	}
}

// broken is a body that ends too early.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// wire is a RoundTripper that plays a script: an answer or an error for each attempt, the last one
// for all further.
type wire struct {
	script []any // an int, a response or an error

	mu     sync.Mutex
	keys   []string
	bodies []string
	at     []time.Time
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := ""
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(b)
		_ = r.Body.Close()
	}
	w.keys, w.bodies, w.at = append(w.keys, r.Header.Get("Idempotency-Key")), append(w.bodies, body), append(w.at, time.Now())
	switch step := w.script[min(len(w.keys), len(w.script))-1].(type) {
	case error:
		return nil, step
	case int:
		return reply(step), nil
	case *http.Response:
		return step, nil
	default:
		panic("no step")
	}
}

// reply makes a response with header fields, given as name, value, ...
func reply(status int, fields ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader("answer"))}
	for pair := range slices.Chunk(fields, 2) {
		resp.Header.Set(pair[0], pair[1])
	}
	return resp
}

func newTransport(t testing.TB, base http.RoundTripper, cfg *idemclient.TransportConfig) *idemclient.Transport {
	t.Helper()
	tr, err := idemclient.NewTransport(base, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// order makes a request with a body that can be read once only.
func order(ctx context.Context) *http.Request {
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://example.com/orders", io.NopCloser(strings.NewReader("the body")))
	return r
}

// play sends a request over a scripted wire in fake time, and returns how the attempts went.
func play(t *testing.T, cfg *idemclient.TransportConfig, script ...any) (w *wire, resp *http.Response, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w = &wire{script: script}
		resp, err = newTransport(t, w, cfg).RoundTrip(order(t.Context()))
	})
	return w, resp, err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
