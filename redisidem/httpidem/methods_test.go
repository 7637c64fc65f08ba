package httpidem_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestMethodsInSmallLettersAreCovered is about handlers and services that do not care how a method
// is written.
func TestMethodsInSmallLettersAreCovered(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(created("done"))
	server := serve(t, m.Handler(h))
	for i, method := range []string{"POST", "post", "Post"} {
		a := post(t, server.URL, "k", "", func(r *http.Request) { r.Method = method })
		if a.StatusCode != http.StatusCreated || a.replayed() != (i > 0) {
			t.Errorf("%s: %d %s", method, a.StatusCode, a.body)
		}
	}
	wantStatus(t, post(t, server.URL, "", "", func(r *http.Request) { r.Method = "pAtCh"; r.Header.Del("Idempotency-Key") }), http.StatusBadRequest)
	h.ran(t, 1)
}

// TestHeadCanBeCovered is about answers without a body that declare the length of one.
func TestHeadCanBeCovered(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Methods: []string{"HEAD", "GET"}})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Content-Type", "text/x")
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		}
	})
	server := serve(t, m.Handler(h))
	for i := range 2 {
		a := post(t, server.URL, "k", "", func(r *http.Request) { r.Method, r.Body = http.MethodHead, nil })
		if a.StatusCode != http.StatusOK || a.replayed() != (i == 1) || a.Header.Get("Content-Type") != "text/x" {
			t.Errorf("%d: %d %v", i, a.StatusCode, a.Header)
		}
		if length := a.Header.Get("Content-Length"); length != "1000" && (i == 0 || length != "") {
			t.Errorf("%d: the length of a body that is not there is %q", i, length)
		}
	}
	wantStatus(t, post(t, server.URL, "k", "", func(r *http.Request) { r.Method, r.Body = http.MethodGet, nil }), http.StatusUnprocessableEntity)
	h.ran(t, 1)
}

func TestRegisteredMethods(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		"GET": true, "POST": true, "post": true, "Patch": true, "QUERY": true, "VERSION-CONTROL": true,
		"": false, "PSOT": false, "PO ST": false, "PRI": false, "*": false,
	} {
		if httpidem.IsRegisteredMethod(method) != want {
			t.Errorf("%q is registered: %t", method, !want)
		}
	}
}
