package httpidem_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestAnswersThatAreNotKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cfg    httpidem.Config
		h      http.HandlerFunc
		first  string
		status string // what the problem says was the first answer's
	}{
		{"flushed", httpidem.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "streamed")
		}, "streamed", "202"},
		{"over the limit", httpidem.Config{Response: httpidem.ResponseConfig{MaxBytes: 10}}, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "01234")
			_, _ = io.WriteString(w, "56789X")
		}, "0123456789X", "200"},
		{"dropped", httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}, created("secret"), "secret", "201"},
		{"too many fields", httpidem.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", strings.Repeat("x", 70_000))
			_, _ = io.WriteString(w, "x")
		}, "x", "200"},
		{"hijacked", httpidem.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, _ := w.(http.Hijacker).Hijack()
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmine")
			_ = rw.Flush()
			_ = conn.Close()
		}, "mine", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			m := s.middleware(&c.cfg)
			h := counting(c.h)
			server := serve(t, m.Handler(h))
			if a := post(t, server.URL, "k", "b"); a.body != c.first || a.replayed() {
				t.Errorf("first: %d %q", a.StatusCode, a.body)
			}
			for range 2 {
				a := retryUntilDone(t, server.URL, "k", "b")
				wantStatus(t, a, http.StatusGone)
				if has := strings.Contains(a.body, `"original_status":`+c.status); has != (c.status != "") || a.replayed() || a.Header.Get("Retry-After") != "" {
					t.Errorf("%v %s", a.Header, a.body)
				}
			}
			h.ran(t, 1)
			m.awaitCount(t, httpidem.ResultNotKept, 1)
			m.awaitCount(t, httpidem.ResultGone, 2)
			wantStatus(t, post(t, server.URL, "k", "other"), http.StatusUnprocessableEntity)
			if strings.Contains(s.redis.Dump(), c.first) && len(c.first) > 1 {
				t.Error("the answer is in the store")
			}
		})
	}
}

// TestKeySettledWithoutAnAnswerIsGone has an operator who settles a request whose outcome was
// unknown, and has no answer to give.
func TestKeySettledWithoutAnAnswerIsGone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	var id atomic.Value
	m := newMiddleware(t, svc, &httpidem.Config{Observer: func(_ context.Context, e httpidem.Event) { id.Store(e.KeyID()) }})
	h := counting(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	server := serve(t, m.Handler(h))
	wantStatus(t, post(t, server.URL, "k", "b"), http.StatusServiceUnavailable)
	m.awaitCount(t, httpidem.ResultOutcomeUnknown, 1)
	in := redisidem.NewInspector(svc)
	key, err := in.Find(t.Context(), id.Load().(string))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Resolve(t.Context(), key, redisidem.Finish(redisidem.Response{}), redisidem.Act{Actor: "ann", Reason: "it was done"}); err != nil {
		t.Fatal(err)
	}
	a := post(t, server.URL, "k", "b")
	wantStatus(t, a, http.StatusGone)
	if a.replayed() || a.Header.Get("Retry-After") != "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	h.ran(t, 1)
	m.awaitCount(t, httpidem.ResultGone, 1)
}

func TestAnswersWithUnknownOutcomeHaveTheirOwnResult(t *testing.T) {
	t.Parallel()
	core := &events{}
	svc := newStore(t).service(redisidem.Config{Observer: core})
	seen := &results{}
	m := newMiddleware(t, svc, &httpidem.Config{Observer: seen.observe})
	for _, c := range []struct {
		status int
		result httpidem.Result
	}{
		{500, httpidem.ResultReleased}, {429, httpidem.ResultReleased}, {502, httpidem.ResultOutcomeUnknown}, {503, httpidem.ResultOutcomeUnknown}, {504, httpidem.ResultOutcomeUnknown},
	} {
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) }))
		call(h, newRequest(t.Context(), strconv.Itoa(c.status), ""))
		if e := seen.last(t); e.Result != c.result || e.Status != c.status {
			t.Errorf("%d: %+v", c.status, e)
		}
		last := core.last(t)
		if last.Kind != redisidem.EventAbandoned || errors.Is(last.Err, redisidem.ErrOutcomeUnknown) != (c.result == httpidem.ResultOutcomeUnknown) {
			t.Errorf("%d: %+v", c.status, last)
		}
	}
}

func TestAnswerThatBreaksOffIsNotKept(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(nil)
	h.next = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		if h.runs.Load() == 1 {
			_, _ = io.WriteString(w, "ha")
			return
		}
		_, _ = io.WriteString(w, "half")
	}
	server := serve(t, m.Handler(h))
	if _, err := try(t.Context(), server.URL, "k", ""); err == nil {
		t.Error("the answer was not broken off")
	}
	if a := retryUntilDone(t, server.URL, "k", ""); a.body != "half" || a.replayed() || m.Count(httpidem.ResultOutcomeUnknown) != 1 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}
