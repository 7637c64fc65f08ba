package httpidem_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestFieldsThatMustNotBeStoredCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	for _, name := range []string{
		"Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authenticate", "Proxy-Connection", "Set-Cookie",
		"Set-Cookie2", "Date", "Age", "Content-Length", "Cache-Control", "Expires", "Authorization", "WWW-Authenticate", "Cookie", "Alt-Svc",
		"Server", "Access-Control-Allow-Credentials", "Idempotency-Replayed", "Idempotency-Key",
	} {
		_, err := httpidem.New(svc, httpidem.Unscoped, &httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: []string{strings.ToLower(name)}}})
		if !errors.Is(err, redisidem.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpidem.New(svc, httpidem.Unscoped, &httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: httpidem.DefaultKeepHeaders()}}); err != nil {
		t.Error(err)
	}
}

func TestS7_OnlyAllowedFieldsAreReplayed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{KeepHeaders: []string{"x-order", "X-Hop"}}})
	sent := http.Header{
		"Content-Type": {"text/x"}, "Location": {"/1"}, "Etag": {`"1"`}, "Vary": {"Origin", "Accept"}, "Content-Encoding": {"br"},
		"Content-Language": {"en"}, "Content-Disposition": {"inline"}, "Retry-After": {"7"}, "Link": {"<a>; rel=a, <b>; rel=b", "<c>; rel=c"},
		"X-Order": {"1", "2"}, "X-Content-Type-Options": {"nosniff"}, "Content-Security-Policy": {"sandbox"},
	}
	dropped := http.Header{
		"Set-Cookie": {"canary=1"}, "Www-Authenticate": {"canary"}, "Authorization": {"canary"}, "Proxy-Authenticate": {"canary"},
		"Date": {"canary"}, "X-Request-Id": {"canary"}, "Access-Control-Allow-Origin": {"canary"}, "Server": {"canary"},
		"Alt-Svc": {"canary"}, "Idempotency-Replayed": {"canary"}, "Keep-Alive": {"canary"}, "X-Hop": {"canary"},
		"Connection": {"close, X-Hop"}, "Cache-Control": {"public, max-age=1, canary"}, "Redisidem-Not-Kept": {"canary"},
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), sent)
		maps.Copy(w.Header(), dropped)
		w.WriteHeader(http.StatusAccepted)
	}))
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Expose-Headers", "X-Outer, idempotency-key")
		w.Header().Set("Vary", "Origin")
		h.ServeHTTP(w, r)
	})
	first, again := call(outer, newRequest(t.Context(), "k", "")), call(outer, newRequest(t.Context(), "k", ""))
	for name, values := range sent {
		if !slices.Equal(first.Header()[name], values) || !slices.Equal(again.Header()[name], values) {
			t.Errorf("%s: first %q, replayed %q", name, first.Header()[name], again.Header()[name])
		}
	}
	if text := fmt.Sprint(again.Header()); strings.Contains(text, "canary") {
		t.Errorf("replayed %v", text)
	}
	if text := s.redis.Dump(); strings.Contains(text, "canary") {
		t.Errorf("stored %v", text)
	}
	for _, w := range []*httptest.ResponseRecorder{first, again} {
		exposed := w.Header()["Access-Control-Expose-Headers"]
		if !slices.Equal(exposed, []string{"X-Outer, idempotency-key", "Idempotency-Replayed"}) {
			t.Errorf("exposed: %q", exposed)
		}
	}
	if again.Header().Get("Cache-Control") != "no-store" || again.Header().Get("Idempotency-Replayed") != "true" || first.Header()["Idempotency-Replayed"] != nil {
		t.Errorf("first %v, replayed %v", first.Header(), again.Header())
	}
}

func TestS7_FieldsThatWerePlantedInTheStoreAreNotSent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := s.middleware(nil).Handler(created("done"))
	call(h, newRequest(t.Context(), "k", ""))
	for _, k := range s.redis.Keys() {
		s.redis.HSet(k, "response_headers", "Set-Cookie: a=1\r\nX-Fine: 1\r\nTransfer-Encoding: chunked\r\n"+
			"Idempotency-Trailer-Set-Cookie: a=1\r\nIdempotency-Trailer-: 1\r\nIdempotency-Trailer-Te: 1\r\n")
	}
	w := call(h, newRequest(t.Context(), "k", ""))
	if w.Code != http.StatusCreated || w.Header()["Set-Cookie"] != nil || w.Header()["Transfer-Encoding"] != nil || w.Header()["Trailer"] != nil || w.Header().Get("X-Fine") != "1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestFieldsAreStoredAsTheyWereSent(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Link"] = []string{" <a>\r\nSet-Cookie: b=1 ", "nul\x00"}
	}))
	call(h, newRequest(t.Context(), "k", ""))
	w := call(h, newRequest(t.Context(), "k", ""))
	if got := w.Header()["Link"]; w.Code != http.StatusOK || !slices.Equal(got, []string{"<a>  Set-Cookie: b=1"}) {
		t.Errorf("%d %q", w.Code, got)
	}
}

// TestHandlersOwnEncodingIsKept compresses inside: what is stored is then what the handler made,
// every client.
func TestHandlersOwnEncodingIsKept(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	url := serve(t, m.Handler(gzipped(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})))).URL
	for i := range 2 {
		if a := accept(t, url, "k", "b", "gzip"); a.body != "hello" || a.replayed() != (i == 1) {
			t.Errorf("%v %q", a.Header, a.body)
		}
	}
}
