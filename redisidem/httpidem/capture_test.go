package httpidem_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestStreamReachesTheClientWhileTheHandlerRuns(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	next := make(chan struct{})
	server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "data: x\n")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
	req.Header.Set("Idempotency-Key", "k")
	req.Header.Set(callerHeader, "alice")
	resp, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Idempotency-Key") != "k" {
		t.Error("no echo")
	}
	lines := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); line != "data: x\n" {
			t.Fatal(line, err)
		}
		next <- struct{}{}
	}
}

func TestKeepFlushedKeepsThem(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{KeepFlushed: true, MaxBytes: 10}})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
		_ = http.NewResponseController(w).Flush()
	})
	server := serve(t, m.Handler(h))
	for range 2 {
		if a := post(t, server.URL, "k", "b"); a.body != "ab" {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
	h.ran(t, 1)
	if a := post(t, server.URL, "large", "0123456789"); a.body != "a0123456789" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestTrailersOfAnswersWhoseFlushIsIgnoredAreSent(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"undeclared": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Digest", "abc")
		},
		"before the body": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"Digest", "abc")
		},
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "bo")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "dy")
			w.Header().Set(http.TrailerPrefix+"Digest", "abc")
		},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP2 %v", name, http2), func(t *testing.T) {
				t.Parallel()
				limit := 100
				if name == "too large" {
					limit = 3
				}
				m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{KeepFlushed: true, MaxBytes: limit}})
				server := httptest.NewUnstartedServer(m.Handler(h))
				server.EnableHTTP2 = http2
				server.StartTLS()
				defer server.Close()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
				req.Header.Set("Idempotency-Key", "k")
				req.Header.Set(callerHeader, "alice")
				resp, err := server.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(got) != "body" || resp.Trailer.Get("Digest") != "abc" || resp.ContentLength != -1 {
					t.Errorf("%s %q of length %d with %v", resp.Proto, got, resp.ContentLength, resp.Trailer)
				}
			})
		}
	}
}

func TestSwitchingProtocolsWithoutHijackingIsNotKept(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSwitchingProtocols) })
	for _, want := range []int{http.StatusSwitchingProtocols, http.StatusGone} {
		if w := call(m.Handler(h), newRequest(t.Context(), "k", "")); w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
	}
	h.ran(t, 1)
}

func TestWritesAfterTheHandlerReturnedAreRefused(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	var kept http.ResponseWriter
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		kept = w
		_, _ = io.WriteString(w, "done")
	}))
	w := call(h, newRequest(t.Context(), "k", ""))
	_, err := kept.Write([]byte("late"))
	_, _, hijackErr := http.NewResponseController(kept).Hijack()
	kept.WriteHeader(http.StatusTeapot)
	if err == nil || hijackErr == nil || http.NewResponseController(kept).Flush() == nil || w.Body.String() != "done" || w.Code != http.StatusOK {
		t.Errorf("%v, %v, %d %s", err, hijackErr, w.Code, w.Body)
	}
}

// bare is a ResponseWriter that can nothing else.
type bare struct{ http.ResponseWriter }

func TestWritersThatCannotFlushOrHijackSaySo(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		_, _, err := c.Hijack()
		if !errors.Is(err, http.ErrNotSupported) || !errors.Is(c.Flush(), http.ErrNotSupported) {
			t.Errorf("hijack: %v", err)
		}
		_, _ = io.WriteString(w, "kept")
	})
	for range 2 {
		w := httptest.NewRecorder()
		m.Handler(h).ServeHTTP(bare{w}, newRequest(t.Context(), "k", ""))
		if w.Body.String() != "kept" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	h.ran(t, 1)
}
