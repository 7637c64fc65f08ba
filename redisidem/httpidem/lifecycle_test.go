package httpidem_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// created is a handler that answers 201 with a text.
func created(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, text)
	}
}

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

// retryUntilDone asks until there is no request in flight any more.
func retryUntilDone(t *testing.T, url, key, body string) answer {
	t.Helper()
	for {
		if a := post(t, url, key, body); a.StatusCode != http.StatusConflict {
			return a
		}
		runtime.Gosched()
	}
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

// inBubble runs a test in fake time, with a service on an embedded Redis whose time passes only
// when all wait.
func inBubble(t *testing.T, cfg redisidem.Config, test func(t *testing.T, svc *redisidem.Service)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true)
		defer server.Close()
		rdb := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
			ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer func() { _ = rdb.Close() }()
		svc, err := redisidem.New(rdb, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		test(t, svc)
		if err := svc.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// call calls a handler without a server.
func call(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// newRequest makes a request of alice's for call.
func newRequest(ctx context.Context, key, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/orders", strings.NewReader(body))
	r.Header.Set("Idempotency-Key", key)
	r.Header.Set(callerHeader, "alice")
	return r
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

func TestWaitersGetTheAnswerAndOthersTheirRefusal(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		running := make(chan struct{})
		counter := counting(func(w http.ResponseWriter, r *http.Request) {
			close(running)
			time.Sleep(10 * time.Second)
			created("done")(w, r)
		})
		h := newMiddleware(t, svc, &httpidem.Config{Wait: time.Minute}).Handler(counter)
		done := make(chan *httptest.ResponseRecorder, 3)
		go func() { done <- call(h, newRequest(context.Background(), "k", "1")) }()
		<-running
		for range 2 {
			go func() { done <- call(h, newRequest(context.Background(), "k", "1")) }()
		}
		// Another request with the key is a mismatch at once, and also after it has waited.
		began := time.Now()
		if w := call(h, newRequest(t.Context(), "k", "2")); w.Code != http.StatusUnprocessableEntity || time.Since(began) > time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(began))
		}
		// Who leaves does not wait on.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if w := call(h, newRequest(ctx, "k", "1")); w.Code != http.StatusConflict || time.Since(began) != time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(began))
		}
		for range 3 {
			if w := <-done; w.Body.String() != "done" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		counter.ran(t, 1)
	})
}

func TestS6_WaitersAreBounded(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		counter := counting(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			created("done")(w, r)
		})
		h := newMiddleware(t, svc, &httpidem.Config{Wait: time.Minute, MaxWaiting: 3}).Handler(counter)
		codes := make(chan int, 10)
		began := time.Now()
		for range cap(codes) {
			go func() { codes <- call(h, newRequest(context.Background(), "k", "")).Code }()
			synctest.Wait()
		}
		got := map[int]int{}
		for i := range cap(codes) {
			got[<-codes]++
			if i == 5 && time.Since(began) > time.Second {
				t.Error("those who may not wait were not refused at once")
			}
		}
		if got[http.StatusCreated] != 4 || got[http.StatusConflict] != 6 {
			t.Errorf("answers: %v", got)
		}
		counter.ran(t, 1)
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

func TestSupersededAnswerIsNotSent(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	m := newMiddleware(t, svc, nil)
	running, release := make(chan struct{}), make(chan struct{})
	h := counting(nil)
	h.next = func(w http.ResponseWriter, r *http.Request) {
		run := h.runs.Load()
		w.Header().Set("Location", fmt.Sprint("/", run))
		if run == 1 {
			close(running)
			<-release
		}
		created(fmt.Sprint(run))(w, r)
	}
	server := serve(t, m.Handler(h))
	first := make(chan answer)
	go func() { first <- post(t, server.URL, "k", "") }()
	<-running
	// An operator takes the lease away, and a retry runs.
	if err := svc.Scope("alice").Unlock(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if a := post(t, server.URL, "k", ""); a.body != "2" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	close(release)
	a := <-first
	if a.StatusCode != http.StatusConflict || a.Header.Get("Retry-After") != "1" || a.Header.Get("Location") != "" || m.Count(httpidem.ResultSuperseded) != 1 {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := post(t, server.URL, "k", ""); a.body != "2" || !a.replayed() {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	for _, real := range []bool{false, true} {
		t.Run(fmt.Sprint("the real answer ", real), func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
			m := newMiddleware(t, svc, &httpidem.Config{AnswerUnacknowledged: real})
			h := counting(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/1")
				s.sever()
				created("done")(w, r)
			})
			a := post(t, serve(t, m.Handler(h)).URL, "k", "")
			switch {
			case real && (a.StatusCode != http.StatusCreated || a.body != "done"):
				t.Errorf("%d %s", a.StatusCode, a.body)
			case !real && (a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") != "5" || a.Header.Get("Location") != ""):
				t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
			}
			if m.Count(httpidem.ResultUnacknowledged) != 1 {
				t.Error("not counted")
			}
			s.heal()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := svc.Close(ctx); err != nil { // waits for the commit
				t.Fatal(err)
			}
			a = post(t, serve(t, s.middleware(nil).Handler(h)).URL, "k", "")
			if a.body != "done" || !a.replayed() {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			h.ran(t, 1)
		})
	}
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		created("got "+string(body))(w, r)
		if httpidem.Stage(r.Context()) != nil {
			t.Error("an unprotected run has a stage")
		}
	})
	closed, open := newMiddleware(t, svc, nil), newMiddleware(t, svc, &httpidem.Config{FailOpen: true})
	s.sever()
	a := post(t, serve(t, closed.Handler(h)).URL, "k", "b")
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header.Get("Idempotency-Key") != "k" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	h.ran(t, 0)
	if a := post(t, serve(t, open.Handler(h)).URL, "k", "b"); a.body != "got b" || a.Header.Get("Idempotency-Key") != "k" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	h.ran(t, 1)
	if closed.Count(httpidem.ResultUnavailable) != 1 || open.Count(httpidem.ResultOpened) != 1 {
		t.Error("not counted")
	}
}

func TestAnswersWithoutTheStoreHaveTheFieldsOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		body   string
	}{
		"text":        {func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated); _, _ = io.WriteString(w, "done") }, 201, "done"},
		"status only": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 202, ""},
		"nothing":     {func(http.ResponseWriter) {}, 200, ""},
		"no content":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent); _, _ = io.WriteString(w, "done") }, 204, ""},
		"large":       {func(w http.ResponseWriter) { _, _ = w.Write(large(5000)) }, 200, string(large(5000))},
		"copied":      {func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("done")) }, 200, "done"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
			m := newMiddleware(t, svc, &httpidem.Config{FailOpen: true, PublishRetention: true})
			server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(idemheader.Replayed, "true")
				w.Header().Set("Idempotency-Key", "another")
				w.Header().Set("Access-Control-Expose-Headers", "X-Own")
				c.answer(w)
			})))
			s.sever()
			a := post(t, server.URL, "k", "b")
			exposed := httpidem.InList(a.Header["Access-Control-Expose-Headers"], "X-Own") &&
				httpidem.InList(a.Header["Access-Control-Expose-Headers"], idemheader.Replayed)
			if a.StatusCode != c.status || a.body != c.body || a.replayed() || a.Header.Get("Idempotency-Key") != "k" || !exposed ||
				a.Header.Get(idemheader.Retention) == "" || m.Count(httpidem.ResultOpened) != 1 {
				t.Errorf("%d %v %.50s", a.StatusCode, a.Header, a.body)
			}
		})
	}
}

func TestStreamsWithoutTheStoreReachTheClient(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		s := newStore(t)
		svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
		m := newMiddleware(t, svc, &httpidem.Config{FailOpen: true, Response: httpidem.ResponseConfig{KeepFlushed: keep}})
		read := make(chan struct{})
		server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(idemheader.Replayed, "true")
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			<-read
			_, _ = io.WriteString(w, "two")
		})))
		s.sever()
		req := newRequest(t.Context(), "k", "")
		req.URL, _ = url.Parse(server.URL)
		req.RequestURI = ""
		resp, err := noRedirects.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		_, err = io.ReadFull(resp.Body, first)
		close(read)
		rest, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(first)+string(rest) != "onetwo" || resp.Header.Get(idemheader.Replayed) != "" {
			t.Errorf("%v, %s%s, %v", err, first, rest, resp.Header)
		}
	}
}

func TestS8_DamagedRecordIsNeverTakenForAbsent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	server := serve(t, s.middleware(&httpidem.Config{FailOpen: true}).Handler(h))
	wantStatus(t, post(t, server.URL, "k", ""), http.StatusCreated)
	for _, k := range s.redis.Keys() {
		s.redis.HSet(k, "control", "garbage")
	}
	wantStatus(t, post(t, server.URL, "k", ""), http.StatusInternalServerError)
	h.ran(t, 1)
}

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
			if m.Count(httpidem.ResultNotKept) != 1 || m.Count(httpidem.ResultGone) != 2 {
				t.Errorf("not kept: %d, gone: %d", m.Count(httpidem.ResultNotKept), m.Count(httpidem.ResultGone))
			}
			wantStatus(t, post(t, server.URL, "k", "other"), http.StatusUnprocessableEntity)
			if strings.Contains(s.redis.Dump(), c.first) && len(c.first) > 1 {
				t.Error("the answer is in the store")
			}
		})
	}
}

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
	resp, err := http.DefaultClient.Do(req)
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

func TestHandlerReachesItsLease(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	var fences []int64
	var outbound []string
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := httpidem.Stage(r.Context())
		fences, outbound = append(fences, st.Fence()), append(outbound, st.OutboundKey("charge"))
		if st.Attempt() != len(fences) || st.Key().Value != "k" || st.Key().Scope != "alice" {
			t.Errorf("attempt %d of %+v", st.Attempt(), st.Key())
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	for range 2 {
		call(h, newRequest(t.Context(), "k", ""))
	}
	if fences[1] <= fences[0] || outbound[0] != outbound[1] {
		t.Errorf("fences %v, outbound keys %v", fences, outbound)
	}
	if httpidem.Stage(t.Context()) != nil {
		t.Error("a context without a stage has one")
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
			if resp.ProtoMajor != 2 || resp.StatusCode != status || status == 200 && string(got) != body || i == 0 && resp.Trailer.Get("Digest") != "abc" {
				t.Errorf("%s %d %q %v", resp.Proto, resp.StatusCode, got, resp.Trailer)
			}
		}
	}
	h.ran(t, 2)
}

// same compares as net/http compares what a handler panicked with: nothing may be wrapped around
// it.
func same(a, b any) bool { return a == b }

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
