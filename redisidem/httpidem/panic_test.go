package httpidem_test

import (
	"net/http"
	"runtime"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestHandlerThatEndsWithoutReturningFreesItsKey(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic": func() { panic("x") }, "abort": func() { panic(http.ErrAbortHandler) }, "Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t).middleware(nil)
			attempts := make(chan int, 2)
			h := counting(nil)
			h.next = func(w http.ResponseWriter, r *http.Request) {
				attempts <- httpidem.Stage(r.Context()).Attempt()
				if h.runs.Load() == 1 {
					end()
				}
				created("done")(w, r)
			}
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				call(m.Handler(h), newRequest(t.Context(), "k", ""))
			}()
			if v := <-ended; name == "abort" && !same(v, http.ErrAbortHandler) || name == "panic" && v != "x" {
				t.Errorf("panicked with %v", v)
			}
			if w := call(m.Handler(h), newRequest(t.Context(), "k", "")); w.Body.String() != "done" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if a, b := <-attempts, <-attempts; a != 1 || b != 2 {
				t.Errorf("attempts %d and %d", a, b)
			}
		})
	}
}

func TestPanicIsFinalWhenEverythingIsKept(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}})
	h := counting(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	func() {
		defer func() {
			if v := recover(); !same(v, http.ErrAbortHandler) {
				t.Errorf("panicked with %v", v)
			}
		}()
		call(m.Handler(h), newRequest(t.Context(), "k", ""))
	}()
	if w := call(m.Handler(h), newRequest(t.Context(), "k", "")); w.Code != http.StatusGone {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 1)
}

func TestPanicBehindAStreamDoesNotRunItAgain(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	server := serve(t, m.Handler(h))
	if _, err := try(t.Context(), server.URL, "k", ""); err == nil {
		t.Error("the stream was not broken off")
	}
	wantStatus(t, retryUntilDone(t, server.URL, "k", ""), http.StatusGone)
	h.ran(t, 1)
}
