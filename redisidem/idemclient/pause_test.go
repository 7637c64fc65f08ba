package idemclient_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestDraft_2_5_1_BackoffGrowsWithJitter(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	w, _, err := play(t, &idemclient.TransportConfig{Attempts: 6, MinBackoff: time.Second, MaxBackoff: 4 * time.Second}, reset)
	if !errors.Is(err, reset) || len(w.at) != 6 {
		t.Fatal(len(w.at), err)
	}
	jitter := false
	for i, full := range []time.Duration{1, 2, 4, 4, 4} {
		pause := w.at[i+1].Sub(w.at[i])
		if full *= time.Second; pause < full/2 || pause > full {
			t.Errorf("pause %d is %v", i, pause)
		}
		jitter = jitter || pause%(500*time.Millisecond) != 0
	}
	if !jitter {
		t.Error("no jitter")
	}
}

func TestClientIsPatientWithItsOwnPauses(t *testing.T) {
	t.Parallel()
	cfg := &idemclient.TransportConfig{MinBackoff: time.Minute, MaxBackoff: time.Hour, Patience: time.Second}
	w, resp, err := play(t, cfg, errors.New("reset"), 503, reply(503, "Retry-After", "1"), 200)
	if len(w.keys) != 4 || err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%d attempts, %v, %v", len(w.keys), resp, err)
	}
	w, resp, err = play(t, cfg, 503, reply(503, "Retry-After", "2"), 200)
	if len(w.keys) != 2 || err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a long Retry-After: %d attempts, %v, %v", len(w.keys), resp, err)
	}
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
