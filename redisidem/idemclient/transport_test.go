package idemclient_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestClientStaysWithinTheRequestsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// An answer is returned instead of an attempt that there is no time for.
		w := &wire{script: []any{reply(503, "Retry-After", "10")}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		resp, err := newTransport(t, w, nil).RoundTrip(order(ctx))
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || time.Since(began) > 0 {
			t.Errorf("%v, %v after %v", resp, err, time.Since(began))
		}
		// A pause ends with the context.
		reset := errors.New("reset")
		for i, first := range []any{reset, reply(http.StatusServiceUnavailable, "Retry-After", "10")} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			began := time.Now()
			tr := newTransport(t, &wire{script: []any{first}}, &idemclient.TransportConfig{MinBackoff: time.Minute, MaxBackoff: time.Minute})
			_, err := tr.RoundTrip(order(ctx))
			if !errors.Is(err, context.Canceled) || errors.Is(err, reset) != (i == 0) || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
	})
}

func TestClientGivesMethodsInSmallLettersTheirKey(t *testing.T) {
	t.Parallel()
	w := &wire{script: []any{503, 200}}
	tr := newTransport(t, w, &idemclient.TransportConfig{Methods: []string{"Post"}, MinBackoff: time.Nanosecond})
	for _, method := range []string{"post", "POST", "patch"} {
		r := order(t.Context())
		r.Method = method
		if _, err := tr.RoundTrip(r); err != nil || r.Method != method {
			t.Fatal(r.Method, err)
		}
	}
	if len(w.keys) != 4 || w.keys[0] == "" || w.keys[0] != w.keys[1] || w.keys[2] == "" || w.keys[3] != "" {
		t.Errorf("keys %q", w.keys)
	}
}
