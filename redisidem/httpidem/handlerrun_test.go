package httpidem_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestClientDisconnectsAndTheRetryIsAReplay(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	running, release, finished := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		close(running)
		<-release
		finished <- r.Context().Err()
		created("done")(w, r)
	})
	left := make(chan struct{})
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stop := context.AfterFunc(r.Context(), func() { close(left) })
		defer stop()
		m.Handler(h).ServeHTTP(w, r)
	}))
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := try(ctx, server.URL, "k", "b")
		gone <- err
	}()
	<-running
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-left // the server knows
	close(release)
	if err := <-finished; err != nil {
		t.Errorf("the handler's context ended with the client: %v", err)
	}
	a := retryUntilDone(t, server.URL, "k", "b")
	if a.body != "done" || a.StatusCode != http.StatusCreated || !a.replayed() {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
	h.ran(t, 1)
}

func TestCancelWithClientCancelsTheHandler(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{CancelWithClient: true})
	running, ended := make(chan struct{}), make(chan error, 1)
	server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(running)
		<-r.Context().Done()
		ended <- r.Context().Err()
		w.WriteHeader(http.StatusInternalServerError)
	})))
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-running; leave() }()
	if _, err := try(ctx, server.URL, "k", ""); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestHandlersContextIsBoundedByMaxHold(t *testing.T) {
	inBubble(t, redisidem.Config{Lease: 10 * time.Second, MaxHold: 30 * time.Second}, func(t *testing.T, svc *redisidem.Service) {
		h := newMiddleware(t, svc, nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			if cause := context.Cause(r.Context()); !errors.Is(cause, redisidem.ErrMaxHold) {
				t.Errorf("the cause is %v", cause)
			}
			w.WriteHeader(http.StatusGatewayTimeout)
		}))
		began := time.Now()
		if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusGatewayTimeout || time.Since(began) != 30*time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(began))
		}
	})
}

func TestHandlersContextKeepsTheDeadlineOfTheServer(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		h := newMiddleware(t, svc, nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			created(r.Context().Err().Error())(w, r)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		w := call(h, newRequest(ctx, "k", ""))
		if w.Body.String() != context.DeadlineExceeded.Error() {
			t.Errorf("answered %q", w.Body)
		}
		// What the handler answered in spite of it is stored.
		if w := call(h, newRequest(t.Context(), "k", "")); w.Header().Get(idemheader.Replayed) != "true" {
			t.Errorf("no replay: %d %s", w.Code, w.Body)
		}
	})
}

func TestLongHandlersKeepTheirLease(t *testing.T) {
	inBubble(t, redisidem.Config{Lease: 10 * time.Second}, func(t *testing.T, svc *redisidem.Service) {
		h := newMiddleware(t, svc, nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Minute)
			created("done")(w, r)
		}))
		done := make(chan *httptest.ResponseRecorder)
		go func() { done <- call(h, newRequest(context.Background(), "k", "")) }()
		time.Sleep(4 * time.Minute)
		w := call(h, newRequest(t.Context(), "k", ""))
		after, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != http.StatusConflict || err != nil || after < 1 || after > 5 {
			t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
		if w := <-done; w.Body.String() != "done" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestClientThatLeftBeforeTheHandlerBeganHasRunNothing(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		counter := counting(created("done"))
		h := newMiddleware(t, svc, nil).Handler(counter)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if w := call(h, newRequest(ctx, "k", "")); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		counter.ran(t, 0)
		synctest.Wait() // a lock that was taken meanwhile is given back behind the answer
		if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusCreated {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// leavesAtClaim is an observer that ends the client's context when a key is claimed.
type leavesAtClaim struct{ leave context.CancelFunc }

func (o *leavesAtClaim) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventClaimed {
		o.leave()
	}
}

func TestClientThatLeavesDuringTheClaimHasRunNothing(t *testing.T) {
	for name, cfg := range map[string]*httpidem.Config{"without waiting": nil, "waiting": {Wait: time.Second}} {
		t.Run(name, func(t *testing.T) {
			client := &leavesAtClaim{leave: func() {}}
			inBubble(t, redisidem.Config{Observer: client}, func(t *testing.T, svc *redisidem.Service) {
				counter := counting(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.WriteString(w, strconv.Itoa(httpidem.Stage(r.Context()).Attempt()))
				})
				h := newMiddleware(t, svc, cfg).Handler(counter)
				ctx, cancel := context.WithCancel(t.Context())
				client.leave = cancel
				if w := call(h, newRequest(ctx, "k", "")); w.Code != http.StatusServiceUnavailable {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				counter.ran(t, 0)
				synctest.Wait()
				if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusOK || w.Body.String() != "1" {
					t.Errorf("%d, attempt %s", w.Code, w.Body)
				}
			})
		})
	}
}

func TestOuterHandlersSeePatternAndForm(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
	})
	r := newRequest(t.Context(), "k", "--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\ncontent\r\n--b--\r\n")
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	call(newStore(t).middleware(nil).Handler(mux), r)
	if r.Pattern != "POST /orders" || r.MultipartForm == nil {
		t.Errorf("pattern %q, form %v", r.Pattern, r.MultipartForm)
	}
	if r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll()
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{MaxBytes: 100}})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Digest")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("Digest", "abc")
	})
	server := httptest.NewUnstartedServer(m.Handler(h))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, body := range []string{"small", strings.Repeat("large", 100)} {
		for i, status := range []int{http.StatusOK, http.StatusOK} {
			if i == 1 && len(body) > 100 {
				status = http.StatusGone
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
			req.Header.Set("Idempotency-Key", body[:5])
			req.Header.Set(callerHeader, "alice")
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.ProtoMajor != 2 || resp.StatusCode != status || status == 200 && (string(got) != body || resp.Trailer.Get("Digest") != "abc") {
				t.Errorf("%s %d %q %v", resp.Proto, resp.StatusCode, got, resp.Trailer)
			}
		}
	}
	h.ran(t, 2)
}

// same compares as net/http compares what a handler panicked with: nothing may be wrapped around
// it.
func same(a, b any) bool { return a == b }
