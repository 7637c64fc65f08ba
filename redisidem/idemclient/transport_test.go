package idemclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

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

func TestDraft_2_5_1_FreshKeyForEachRequestAndTheSameForItsRetries(t *testing.T) {
	t.Parallel()
	w := &wire{script: []any{errors.New("reset"), 503, 200, 200}}
	tr := newTransport(t, w, &idemclient.TransportConfig{MinBackoff: time.Nanosecond})
	for range 2 {
		r := order(t.Context())
		resp, err := tr.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		if r.Header.Get("Idempotency-Key") != "" {
			t.Error("the caller's request was changed")
		}
	}
	if len(w.keys) != 4 || w.keys[0] != w.keys[1] || w.keys[1] != w.keys[2] || w.keys[3] == w.keys[0] {
		t.Errorf("keys %q", w.keys)
	}
	for _, k := range w.keys {
		key, err := idemheader.Parse([]string{k}, true)
		if err != nil || httpidem.UUIDKeys(key) != nil {
			t.Errorf("key %s: %v", k, err)
		}
	}
	for _, body := range w.bodies {
		if body != "the body" {
			t.Errorf("bodies %q", w.bodies)
		}
	}
}

func TestDraft_2_5_1_WhatTheClientRetries(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	for _, c := range []struct {
		name     string
		first    any
		attempts int
	}{
		{"network", reset, 2},
		{"409", 409, 2},
		{"503", 503, 2},
		{"200", 200, 1},
		{"400", 400, 1},
		{"422", 422, 1},
		{"404", 404, 1},
		{"410", 410, 1},
		{"500", 500, 1},
		{"502", 502, 1},
		{"409 of the operation itself", reply(409, "Idempotency-Replayed", "true"), 1},
		{"503 that is stored", reply(503, "Idempotency-Replayed", "true"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, resp, err := play(t, nil, c.first, 201)
			if len(w.keys) != c.attempts || err != nil {
				t.Fatalf("%d attempts, %v", len(w.keys), err)
			}
			if body, _ := io.ReadAll(resp.Body); string(body) != "answer" {
				t.Errorf("the answer is %q", body)
			}
		})
	}
}

func TestDraft_2_5_1_RetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)
		w := &wire{script: []any{reply(409, "Retry-After", "7"), reply(503, "Retry-After", date), reply(503, "Retry-After", "nonsense"), 200}}
		if _, err := newTransport(t, w, nil).RoundTrip(order(t.Context())); err != nil {
			t.Fatal(err)
		}
		if first, second := w.at[1].Sub(w.at[0]), w.at[2].Sub(w.at[0]); first != 7*time.Second || second != 30*time.Second {
			t.Errorf("attempts after %v and %v", first, second)
		}
		if third := w.at[3].Sub(w.at[2]); third > 400*time.Millisecond {
			t.Errorf("the third after %v", third)
		}
	})
	w, resp, err := play(t, nil, reply(503, "Retry-After", "61"), 200)
	if len(w.keys) != 1 || resp.StatusCode != http.StatusServiceUnavailable || err != nil {
		t.Errorf("a long Retry-After: %d attempts, %v, %v", len(w.keys), resp, err)
	}
}

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

func TestClientKeepsKeysThatItIsGiven(t *testing.T) {
	t.Parallel()
	w := &wire{script: []any{200}}
	tr := newTransport(t, w, nil)
	own := order(t.Context())
	own.Header.Set("Idempotency-Key", "mine")
	get := order(t.Context())
	get.Method = ""
	for _, r := range []*http.Request{own, order(idemclient.WithKey(t.Context(), `from "the" program`)), get} {
		if _, err := tr.RoundTrip(r); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.keys, []string{"mine", `"from \"the\" program"`, ""}) {
		t.Errorf("keys %q", w.keys)
	}
	var syntax *idemheader.SyntaxError
	if _, err := tr.RoundTrip(order(idemclient.WithKey(t.Context(), "no\nkey"))); !errors.As(err, &syntax) {
		t.Error(err)
	}
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

func TestClientKeepsTheKeyOverRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys []string
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, fmt.Sprint(r.Method, " ", r.Header.Get("Idempotency-Key"), " ", string(body)))
		switch r.URL.Path {
		case "/orders":
			http.Redirect(w, r, "/v2/orders", http.StatusTemporaryRedirect)
		case "/v2/orders":
			http.Redirect(w, r, "/orders/1", http.StatusSeeOther)
		}
	}))
	client := &http.Client{Transport: newTransport(t, nil, nil)}
	defer client.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/orders", strings.NewReader("b"))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(keys) != 3 || keys[0] != keys[1] || !strings.HasSuffix(keys[0], " b") || keys[2] != "GET  " {
		t.Errorf("requests %q", keys)
	}
}
