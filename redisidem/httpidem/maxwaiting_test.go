package httpidem_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

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
