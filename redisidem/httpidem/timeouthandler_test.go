package httpidem_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestResponseThatComesTooLateIsKeptForTheRetry has a handler that takes longer than its clients
// wait, and longer than a lease.
func TestResponseThatComesTooLateIsKeptForTheRetry(t *testing.T) {
	for name, config := range map[string]httpidem.ResponseConfig{"held back": {}, "flushed": {}, "flushes ignored": {KeepFlushed: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
				seen := &results{}
				m := newMiddleware(t, svc, &httpidem.Config{Observer: seen.observe, Response: config})
				charge := counting(func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(45 * time.Second)
					w.WriteHeader(http.StatusCreated)
					if name != "held back" {
						_ = http.NewResponseController(w).Flush()
					}
					_, _ = io.WriteString(w, "receipt")
				})
				h := m.TimeoutHandler(charge, 30*time.Second)

				began := time.Now()
				late := call(h, newRequest(t.Context(), "k", "charge"))
				if took := time.Since(began); late.Code != http.StatusGatewayTimeout || took != 30*time.Second ||
					late.Header().Get("Idempotency-Problem") != "timed-out" || late.Header().Get("Retry-After") != "5" {
					t.Errorf("after %v: %d %v %s", took, late.Code, late.Header(), late.Body)
				}
				if busy := call(h, newRequest(t.Context(), "k", "charge")); busy.Code != http.StatusConflict {
					t.Errorf("while the handler runs: %d %s", busy.Code, busy.Body)
				}
				time.Sleep(16 * time.Second)
				again := call(h, newRequest(t.Context(), "k", "charge"))
				if again.Code != http.StatusCreated || again.Body.String() != "receipt" || again.Header().Get("Idempotency-Replayed") != "true" {
					t.Errorf("the retry got %d %v %s", again.Code, again.Header(), again.Body)
				}
				charge.ran(t, 1)
				want := []httpidem.Event{
					{Result: httpidem.ResultTimedOut, Status: 504},
					{Result: httpidem.ResultInFlight, Status: 409},
					{Result: httpidem.ResultExecuted, Status: 201, Late: true},
					{Result: httpidem.ResultReplayed, Status: 201},
				}
				for i, e := range seen.events {
					if e.KeyID() != svc.Scope("alice").ID("k") {
						t.Errorf("event %+v has the ID %q", e, e.KeyID())
					}
					seen.events[i] = httpidem.Event{Result: e.Result, Status: e.Status, Late: e.Late}
				}
				if !slices.Equal(seen.events, want) {
					t.Errorf("the observer received %+v, want %+v", seen.events, want)
				}
			})
		})
	}
}

// TestHandlerThatEndsBadlyAfterItsClientWasAnswered must end neither the program nor the key.
func TestHandlerThatEndsBadlyAfterItsClientWasAnswered(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter, r *http.Request){
		"panic": func(http.ResponseWriter, *http.Request) { panic("boom") },
		"exit":  func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
		"unknown": func(w http.ResponseWriter, r *http.Request) {
			httpidem.OutcomeUnknown(r.Context())
			w.WriteHeader(http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
				seen := &results{}
				m := newMiddleware(t, svc, &httpidem.Config{Observer: seen.observe})
				charge := counting(func(w http.ResponseWriter, r *http.Request) {
					if httpidem.Stage(r.Context()).Attempt() == 1 {
						time.Sleep(2 * time.Second)
						end(w, r)
						return
					}
					_, _ = io.WriteString(w, "attempt 2")
				})
				h := m.TimeoutHandler(charge, time.Second)
				if late := call(h, newRequest(t.Context(), "k", "")); late.Code != http.StatusGatewayTimeout {
					t.Errorf("%d %s", late.Code, late.Body)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if e := seen.last(t); !e.Late || e.Result != httpidem.ResultPanicked && e.Result != httpidem.ResultOutcomeUnknown {
					t.Errorf("the observer received %+v", e)
				}
				if again := call(h, newRequest(t.Context(), "k", "")); again.Body.String() != "attempt 2" {
					t.Errorf("%d %s", again.Code, again.Body)
				}
			})
		})
	}
}

// TestTimeLimitDoesNotApplyToAResponseThatHasBegun sends the rest of a stream after the limit.
func TestTimeLimitDoesNotApplyToAResponseThatHasBegun(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		h := newMiddleware(t, svc, nil).TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first, ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "last")
		}), time.Second)
		if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusOK || w.Body.String() != "first, last" || !w.Flushed {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusGone {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestTimeLimitChangesNothingForAHandlerInTime compares the responses of a server with and without
// a limit.
func TestTimeLimitChangesNothingForAHandlerInTime(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	for name, next := range map[string]http.HandlerFunc{
		"plain":   created("receipt"),
		"no body": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"early hint": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			created("x")(w, nil)
		},
		"trailer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set("X-Sum", "4")
		},
		"not kept": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"panic":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"exit":     func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
		"hijack": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			_ = conn.Close()
		},
	} {
		outside := func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Outside", "set before")
				h.ServeHTTP(w, r)
			})
		}
		plain, limited := serve(t, outside(m.Handler(next))), serve(t, outside(m.TimeoutHandler(next, time.Hour)))
		want, wantErr := try(t.Context(), plain.URL, "plain-"+strings.ReplaceAll(name, " ", "-"), "")
		got, gotErr := try(t.Context(), limited.URL, "limited-"+strings.ReplaceAll(name, " ", "-"), "")
		if (wantErr == nil) != (gotErr == nil) {
			t.Errorf("%s: error %v, want %v", name, gotErr, wantErr)
		}
		if wantErr != nil {
			continue
		}
		for _, volatile := range []string{"Date", "Idempotency-Key"} {
			want.Header.Del(volatile)
			got.Header.Del(volatile)
		}
		if got.StatusCode != want.StatusCode || got.body != want.body || !equalHeaders(got.Header, want.Header) || !equalHeaders(got.Trailer, want.Trailer) {
			t.Errorf("%s: %d %v %v %q, want %d %v %v %q", name, got.StatusCode, got.Header, got.Trailer, got.body,
				want.StatusCode, want.Header, want.Trailer, want.body)
		}
	}
}

func equalHeaders(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if !slices.Equal(b[name], values) {
			return false
		}
	}
	return true
}

func TestPanicInTimeIsThatOfTheHandler(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	h := newStore(t).middleware(nil).TimeoutHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(cause) }), time.Hour)
	defer func() {
		if got := recover(); got != cause { //nolint:errorlint // the value itself
			t.Errorf("panic with %v", got)
		}
	}()
	call(h, newRequest(t.Context(), "k", ""))
}

// place is a quota that counts how often its place was released.
type place struct{ released atomic.Int64 }

func (p *place) Admit(context.Context, string) (func(created bool), error) {
	return func(bool) { p.released.Add(1) }, nil
}

// TestHandlerThatContinuesHoldsItsPlaceAndItsFiles looks at what a request gives back when it ends.
func TestHandlerThatContinuesHoldsItsPlaceAndItsFiles(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		var place place
		m := newMiddleware(t, svc, &httpidem.Config{Quota: &place})
		var file string
		h := m.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			if err := r.ParseMultipartForm(1); err != nil {
				t.Error(err)
				return
			}
			part, err := r.MultipartForm.File["f"][0].Open()
			if err != nil {
				t.Error(err)
				return
			}
			file = part.(*os.File).Name()
			_ = part.Close()
		}), time.Second)
		body := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 1<<16) + "\r\n--b--\r\n"
		r := newRequest(t.Context(), "k", body)
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		synctest.Wait()
		if w.Code != http.StatusGatewayTimeout || place.released.Load() != 0 {
			t.Errorf("%d; the place was released %d times", w.Code, place.released.Load())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if place.released.Load() != 1 {
			t.Errorf("the place was released %d times", place.released.Load())
		}
		if _, err := os.Stat(file); file == "" || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q is left: %v", file, err)
		}
	})
}
