package httpidem_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/internal/adaptertest"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestRouting(t *testing.T) {
	t.Parallel()
	adaptertest.Routing(t, serveMux)
}

func TestWhatRecoveryAnswersHasNothingOfTheHandlers(t *testing.T) {
	t.Parallel()
	adaptertest.Panics(t, serveMux)
}

// serveMux serves an app with a mux. It has no pages of its own, since a mux takes none, and no
// status before its header.
func serveMux(t *testing.T, app adaptertest.App) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, handler := range app.Routes {
		if path == "/" {
			path = "/{$}"
		}
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			status := app.Status
			write := func(code int, body string) error {
				if code != 0 {
					w.WriteHeader(code)
				}
				_, err := io.WriteString(w, body)
				return err
			}
			if err := handler(adaptertest.Call{Context: r.Context(), Header: w.Header().Set, Status: func(s int) { status = s }, Write: write}); err != nil {
				t.Error(err)
			}
			if status != 0 {
				w.WriteHeader(status) // in the end, as frameworks do
			}
		})
	}
	var h http.Handler = mux
	if app.Adapter != nil {
		h = app.Adapter.Handler(h)
	}
	if app.Recovers {
		h = recovering(h)
	}
	return adaptertest.Serve(t, h).URL
}

func recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// TestWhatAMuxDoesByItselfIsNotProtected is about requests for which nothing but routing happens,
// also in a mux behind another one.
func TestWhatAMuxDoesByItselfIsNotProtected(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	runs := 0
	inner := http.NewServeMux()
	inner.HandleFunc("POST /in/tree/", func(http.ResponseWriter, *http.Request) { runs++ })
	outer := http.NewServeMux()
	outer.Handle("/in/", inner)
	outer.Handle("POST /old", http.RedirectHandler("/in/tree/", http.StatusPermanentRedirect))
	h := s.middleware(nil).Handler(outer)
	before := s.calls.Load()
	for target, want := range map[string]int{
		"/nowhere": 404, "/in/nowhere": 404, "/old": 308, "/in/tree": 307, "/in//tree/": 307, "/in/tree/../tree/": 307,
	} {
		for _, key := range []string{"", "k"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(""))
			if key != "" {
				r.Header.Set(idemheader.Key, key)
			}
			h.ServeHTTP(w, r)
			if w.Code != want || w.Header().Get(idemheader.Replayed) != "" {
				t.Errorf("%s: %d %s", target, w.Code, w.Body)
			}
		}
	}
	if n := s.calls.Load() - before; n != 0 || runs != 0 {
		t.Errorf("the store was asked %d times, and the handler ran %d times", n, runs)
	}
	// A client that follows the redirect does so with the same key.
	if w := call(h, newRequestTo(t, "/in/tree/")); w.Code != 200 || runs != 1 {
		t.Errorf("%d %s, the handler ran %d times", w.Code, w.Body, runs)
	}
}

func newRequestTo(t *testing.T, target string) *http.Request {
	t.Helper()
	r := newRequest(t.Context(), "k", "")
	r.URL.Path = target
	return r
}
