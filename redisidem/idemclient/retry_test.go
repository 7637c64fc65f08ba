package idemclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// TestClientReturnsErrorsThatWillNotChangeAtOnce asks net/http's own transport what goes wrong.
func TestClientReturnsErrorsThatWillNotChangeAtOnce(t *testing.T) {
	t.Parallel()
	plain := serve(t, created("done"))
	secure := httptest.NewUnstartedServer(created("done"))
	secure.Config.ErrorLog = quietLog() // of handshakes that clients break off
	secure.StartTLS()
	t.Cleanup(secure.Close)
	refused := closedPort(t)
	const attempts = 3
	for name, c := range map[string]struct {
		url    string
		change func(*http.Request)
		trust  bool
		want   int64
	}{
		"scheme":            {url: "foo://example.com/", want: 1},
		"no host":           {url: "http:///path", want: 1},
		"header name":       {url: plain.URL, change: func(r *http.Request) { r.Header["X Y"] = []string{"a"} }, want: 1},
		"header value":      {url: plain.URL, change: func(r *http.Request) { r.Header.Set("X-Bad", "a\nb") }, want: 1},
		"trailer value":     {url: plain.URL, change: func(r *http.Request) { r.Trailer = http.Header{"X-Bad": {"a\x00b"}} }, want: 1},
		"method":            {url: plain.URL, change: func(r *http.Request) { r.Method = "BAD METHOD" }, want: 1},
		"unknown authority": {url: secure.URL, want: 1},
		"another name":      {url: strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trust: true, want: 1},
		"no TLS there":      {url: strings.Replace(plain.URL, "http:", "https:", 1), want: 1},
		"refused":           {url: "http://" + refused, want: attempts},
		"refused, with TLS": {url: "https://" + refused, want: attempts},
		"cut off":           {url: serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).URL, want: attempts},
		"odd but fine":      {url: "http://" + refused, change: func(r *http.Request) { r.Header.Set("X-Odd", "a\tb \xff") }, want: attempts},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}}
			if c.trust {
				inner.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				inner.TLSClientConfig.ServerName = "elsewhere.invalid"
			}
			defer inner.CloseIdleConnections()
			var sent atomic.Int64
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				sent.Add(1)
				return inner.RoundTrip(r)
			})
			tr := newTransport(t, base, &idemclient.TransportConfig{
				Methods: []string{http.MethodPost, "BAD METHOD"}, Attempts: attempts, MinBackoff: time.Nanosecond, MaxBackoff: time.Nanosecond,
			})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader("b"))
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(req)
			}
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
				t.Fatal(resp.Status)
			}
			if sent.Load() != c.want {
				t.Errorf("sent %d times, want %d: %v", sent.Load(), c.want, err)
			}
		})
	}
}

// closedPort returns an address without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

// trickle is the body of an answer that comes a byte in a second, until it is closed.
type trickle struct {
	closed chan struct{}
	after  time.Duration // when it was closed
	began  time.Time
}

func (b *trickle) Read(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, net.ErrClosed
	case <-time.After(time.Second):
		return copy(p, "x"), nil
	}
}

func (b *trickle) Close() error {
	close(b.closed) // which panics the second time
	b.after = time.Since(b.began)
	return nil
}

func TestClientDoesNotWaitForTheRestOfARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := &trickle{closed: make(chan struct{}), began: time.Now()}
		refusal := reply(http.StatusServiceUnavailable)
		refusal.Body = body
		w := &wire{script: []any{refusal, 200}}
		cfg := &idemclient.TransportConfig{MinBackoff: 300 * time.Millisecond, MaxBackoff: 300 * time.Millisecond}
		if _, err := newTransport(t, w, cfg).RoundTrip(order(t.Context())); err != nil {
			t.Fatal(err)
		}
		if pause := w.at[1].Sub(w.at[0]); pause > 300*time.Millisecond || body.after > pause {
			t.Errorf("the second attempt after %v, closed after %v", pause, body.after)
		}

		// Nor when the context ends meanwhile.
		body = &trickle{closed: make(chan struct{}), began: time.Now()}
		refusal = reply(http.StatusServiceUnavailable, "Retry-After", "30")
		refusal.Body = body
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, cancel)
		if _, err := newTransport(t, &wire{script: []any{refusal, 200}}, nil).RoundTrip(order(ctx)); err == nil {
			t.Error("no error")
		}
		if took := time.Since(body.began); took != 2500*time.Millisecond || body.after != took {
			t.Errorf("returned after %v, closed after %v", took, body.after)
		}
	})
}

// TestClientKeepsTheConnectionOfARefusalThatEnds asks net/http's own transport, and a server that
// never ends the first answer.
func TestClientKeepsTheConnectionOfARefusalThatEnds(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		var from []string
		again := make(chan struct{})
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if from = append(from, r.RemoteAddr); len(from) == 2 {
				close(again)
				return
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
			if !ends {
				_ = http.NewResponseController(w).Flush()
				<-again
			}
		}))
		inner := &http.Transport{}
		tr := newTransport(t, inner, &idemclient.TransportConfig{MinBackoff: time.Second})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		slices.Sort(from)
		if len(from) != 2 || (from[0] == from[1]) != ends {
			t.Errorf("ends %v: requests from %v", ends, from)
		}
		inner.CloseIdleConnections()
	}
}

// TestClientDoesNotTakeALargeRetryAfterForNone has servers ask for more patience than there are
// bits.
func TestClientDoesNotTakeALargeRetryAfterForNone(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"99999999999999999999", "4294967296", "2147483648"} {
		sent := 0
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			sent++
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		transport, err := idemclient.NewTransport(nil, &idemclient.TransportConfig{MinBackoff: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if sent != 1 || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: sent %d times", after, sent)
		}
	}
}

// TestClientClosesBodies counts the bodies, of requests and of answers, that are open when a call
// is over.
func TestClientClosesBodies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []int // 0: an error
		getBody bool
		large   bool
		fails   bool
	}{
		{name: "at once", answers: []int{201}},
		{name: "with GetBody", answers: []int{503, 0, 409, 201}, getBody: true},
		{name: "without", answers: []int{503, 0, 409, 201}},
		{name: "never", answers: []int{503, 503, 503, 503, 503}},
		{name: "large", answers: []int{503}, large: true},
		{name: "unreadable", fails: true},
		{name: "refused", answers: []int{422}},
		{name: "too late", answers: []int{503, -1}},
		{name: "GetBody fails", answers: []int{503, -2}, getBody: true},
	} {
		open := 0
		sent := 0
		ctx, cancel := context.WithCancel(t.Context())
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			defer func() { _ = r.Body.Close() }()
			_, _ = io.Copy(io.Discard, r.Body)
			status := c.answers[sent]
			sent++
			if sent < len(c.answers) && c.answers[sent] == -1 {
				time.AfterFunc(10*time.Millisecond, cancel)
			}
			if status == 0 {
				return nil, errors.New("broken")
			}
			open++
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: &tracked{strings.NewReader("answer"), &open}}, nil
		})
		text := "body"
		if c.large {
			text = strings.Repeat("x", 20)
		}
		open++
		var content io.Reader = strings.NewReader(text)
		if c.fails {
			content = broken{}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://test.invalid/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Body = &tracked{content, &open}
		if c.getBody {
			req.GetBody = func() (io.ReadCloser, error) {
				if len(c.answers) > 1 && c.answers[1] == -2 {
					return nil, errors.New("no body")
				}
				open++
				return &tracked{strings.NewReader("body"), &open}, nil
			}
		}
		pause := time.Millisecond
		if len(c.answers) > 1 && c.answers[1] == -1 {
			pause = time.Minute
		}
		transport, err := idemclient.NewTransport(base, &idemclient.TransportConfig{MinBackoff: pause, MaxBackoff: pause, MaxBodyBytes: 10})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		cancel()
		if open != 0 {
			t.Errorf("%s: %d bodies are open; %v", c.name, open, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// tracked is a body that counts down once when it is closed.
type tracked struct {
	io.Reader
	open *int
}

func (b *tracked) Close() error {
	if b.open != nil {
		*b.open--
		b.open = nil
	}
	return nil
}
