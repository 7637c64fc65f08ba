package idemclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestClientSendsLargeBodiesOnce(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	w, _, err := play(t, &idemclient.TransportConfig{MaxBodyBytes: 7}, reset, 200)
	if !errors.Is(err, reset) || !slices.Equal(w.bodies, []string{"the body"}) {
		t.Errorf("%q, %v", w.bodies, err)
	}
	w, _, err = play(t, &idemclient.TransportConfig{MaxBodyBytes: 8}, reset, 200)
	if err != nil || !slices.Equal(w.bodies, []string{"the body", "the body"}) {
		t.Errorf("%q, %v", w.bodies, err)
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
