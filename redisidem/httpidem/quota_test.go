package httpidem_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// bounded is a Quota that limits the requests in flight and the stored keys of each scope; 0 is no
// limit.
type bounded struct {
	inFlight, stored int

	mu   sync.Mutex
	used map[string]struct{ inFlight, stored int }
}

func (b *bounded) Admit(_ context.Context, scope string) (func(bool), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used == nil {
		b.used = make(map[string]struct{ inFlight, stored int })
	}
	u := b.used[scope]
	if b.inFlight > 0 && u.inFlight >= b.inFlight || b.stored > 0 && u.stored+u.inFlight >= b.stored {
		return nil, &httpidem.QuotaError{What: "requests", RetryAfter: time.Second}
	}
	u.inFlight++
	b.used[scope] = u
	return func(made bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		u := b.used[scope]
		u.inFlight--
		if made {
			u.stored++
		}
		b.used[scope] = u
	}, nil
}

// TestS6_AScopeGetsSoManyKeys sends 100,000 keys of one scope: the store and the process keep what
// the quota allows, and nothing of the rest. It runs alone, since it looks at the heap.
func TestS6_AScopeGetsSoManyKeys(t *testing.T) {
	const quota = 100
	requests := 100_000
	if testing.Short() {
		requests = 2000
	}
	s := newStore(t)
	m := s.middleware(&httpidem.Config{Quota: &bounded{inFlight: 10, stored: quota}})
	h := counting(created("done"))
	guarded := m.Handler(h)
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	var before uint64
	for i := range requests {
		w := call(guarded, newRequest(t.Context(), "key-"+strconv.Itoa(i), ""))
		switch {
		case i < quota && w.Code != http.StatusCreated:
			t.Fatalf("key %d: %d %s", i, w.Code, w.Body)
		case i >= quota && w.Code != http.StatusTooManyRequests:
			t.Fatalf("key %d: %d %s", i, w.Code, w.Body)
		}
		if i == quota {
			before = heap()
			if after := w.Header().Get("Retry-After"); after == "" || !strings.Contains(w.Body.String(), "#over-quota") {
				t.Errorf("Retry-After %q: %s", after, w.Body)
			}
		}
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("%d refused requests left %d bytes", requests-quota, grown)
	}
	if n := len(s.redis.Keys()); n > quota {
		t.Errorf("the store has %d keys", n)
	}
	h.ran(t, quota)
	// A stored answer is still replayed, and another request is still a mismatch.
	if w := call(guarded, newRequest(t.Context(), "key-1", "")); w.Code != http.StatusCreated || w.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(guarded, newRequest(t.Context(), "key-1", "other")); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// And other scopes have quotas of their own.
	r := newRequest(t.Context(), "key-1", "")
	r.Header.Set(callerHeader, "bob")
	if w := call(guarded, r); w.Code != http.StatusCreated || w.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := m.Count(httpidem.ResultOverQuota); n != int64(requests-quota) {
		t.Errorf("%d requests were counted", n)
	}
}

func TestS6_AScopeGetsSoManyRequestsInFlight(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(&httpidem.Config{Quota: &bounded{inFlight: 2}, MaxBodyBytes: 100})
	begun, release := make(chan struct{}), make(chan struct{})
	h := counting(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-release
		w.WriteHeader(http.StatusCreated)
	})
	server := serve(t, m.Handler(h))
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			if a, err := try(t.Context(), server.URL, strconv.Itoa(i), ""); err != nil || a.StatusCode != http.StatusCreated {
				t.Errorf("%v %v", a, err)
			}
		})
		<-begun
	}
	for range 3 {
		a := post(t, server.URL, "third", "")
		wantStatus(t, a, http.StatusTooManyRequests)
		if a.Header.Get("Retry-After") != "1" || a.Header.Get("Idempotency-Key") != "third" {
			t.Errorf("%v", a.Header)
		}
	}
	close(release)
	all.Wait()
	go func() { <-begun }()
	wantStatus(t, post(t, server.URL, "third", ""), http.StatusCreated)
	h.ran(t, 3)
	// Each way out gives the place back.
	for range 5 {
		wantStatus(t, post(t, server.URL, "large", strings.Repeat("x", 101)), http.StatusRequestEntityTooLarge)
		wantStatus(t, post(t, server.URL, "third", "other"), http.StatusUnprocessableEntity)
	}
}

// TestS6_QuotasAreAskedOnceAndNotified counts the calls of a Quota.
func TestS6_QuotasAreAskedOnceAndNotified(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	q := &quota{}
	m := s.middleware(&httpidem.Config{Quota: q, Fingerprint: httpidem.Fingerprint{
		Func: func(_ *httpidem.Digest, _ *http.Request, body *httpidem.Body) error {
			if text, _ := body.Bytes(); string(text) == "panic" {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}})
	status := http.StatusInternalServerError
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Panic") != "" {
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("X-Nothing") != "" {
			httpidem.NothingDone(r.Context())
		}
		w.WriteHeader(status)
	}))
	for i, c := range []struct {
		name, key, body, field string
		status                 int
		want                   string
	}{
		{"a new key", "a", "", "", 500, "alice made"},
		{"a released one", "a", "", "", 500, "alice"},
		{"another released one", "a", "", "", 201, "alice"},
		{"a replay", "a", "", "", 201, "alice"},
		{"a key that nothing is done for", "b", "", "X-Nothing", 503, "alice made"},
		{"once more", "b", "", "X-Nothing", 503, "alice"},
		{"panic", "c", "", "X-Panic", 0, "alice made"},
		{"panic before", "d", "panic", "", 0, "alice"},
	} {
		q.calls = nil
		status = c.status
		r := newRequest(t.Context(), c.key, c.body)
		if c.field != "" {
			r.Header.Set(c.field, "1")
		}
		func() {
			defer func() {
				if (recover() != nil) != (c.status == 0) {
					t.Errorf("%s: panic or none", c.name)
				}
			}()
			call(h, r)
		}()
		if got := strings.Join(q.calls, "; "); got != c.want {
			t.Errorf("%d, %s: calls %q, want %q", i, c.name, got, c.want)
		}
	}
	q.err = errors.New("quota's own")
	w := call(h, newRequest(t.Context(), "new", ""))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || strings.Contains(w.Body.String(), "own") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// quota is a Quota that records its calls.
type quota struct {
	err   error
	calls []string
}

func (q *quota) Admit(_ context.Context, scope string) (func(bool), error) {
	if q.err != nil {
		return nil, q.err
	}
	return func(made bool) {
		if made {
			scope += " made"
		}
		q.calls = append(q.calls, scope)
	}, nil
}

// TestQuotaCountsARecordForTheRequestThatUsesItFirst lets a refused claim create the record: a lock
// without a record was left behind. Handlers and flows count it for the same request.
func TestQuotaCountsARecordForTheRequestThatUsesItFirst(t *testing.T) {
	t.Parallel()
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(201, "done")), nil
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]func(*observed) (http.Handler, error){
		"handler": func(m *observed) (http.Handler, error) { return m.Handler(created("done")), nil },
		"flow":    func(m *observed) (http.Handler, error) { return m.Flow(flow, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			q := &quota{}
			h, err := handler(s.middleware(&httpidem.Config{Quota: q}))
			if err != nil {
				t.Fatal(err)
			}
			lock := s.lockOf(t, "k")
			if err := s.redis.Set(lock, "another"); err != nil {
				t.Fatal(err)
			}
			s.redis.SetTTL(lock, time.Minute)
			var codes []int
			for i := range 3 {
				if i == 1 {
					s.redis.Del(lock)
				}
				codes = append(codes, call(h, newRequest(t.Context(), "k", "")).Code)
			}
			if want := []int{409, 201, 201}; !slices.Equal(codes, want) {
				t.Errorf("answers: %v, want %v", codes, want)
			}
			if got := strings.Join(q.calls, "; "); got != "alice; alice made; alice" {
				t.Errorf("calls: %s", got)
			}
		})
	}
}

// lockOf returns the name of the lock of alice's key.
func (s *store) lockOf(t *testing.T, key string) (name string) {
	t.Helper()
	w := call(s.middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, k := range s.redis.Keys() {
			if s.redis.Type(k) == "string" {
				name = k
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})), newRequest(t.Context(), key, ""))
	if w.Code != http.StatusNoContent || name == "" {
		t.Fatalf("%d, lock %q", w.Code, name)
	}
	s.redis.FlushAll()
	return name
}

func TestS6_FlowsHaveQuotasToo(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(201, "done")), nil
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	m := s.middleware(&httpidem.Config{Quota: &bounded{stored: 1}})
	h, err := m.Flow(flow, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		key    string
		status int
	}{{"a", 201}, {"b", 429}, {"a", 201}} {
		if w := call(h, newRequest(t.Context(), c.key, "")); w.Code != c.status {
			t.Errorf("%d: %d %s", i, w.Code, w.Body)
		}
	}
}

// TestS6_FlowsThatWaitAreBounded is TestS6_WaitersAreBounded for flows, where those that are worked
// on count, too.
func TestS6_FlowsThatWaitAreBounded(t *testing.T) {
	inBubble(t, redisidem.Config{}, func(t *testing.T, svc *redisidem.Service) {
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{{
			Point: redisidem.Started,
			Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				time.Sleep(10 * time.Second)
				return redisidem.Finish(redisidem.JSON(201, "done")), nil
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		h, err := newMiddleware(t, svc, &httpidem.Config{Wait: time.Minute, MaxWaiting: 3}).Flow(flow, nil)
		if err != nil {
			t.Fatal(err)
		}
		codes := make(chan int, 10)
		for range cap(codes) {
			go func() { codes <- call(h, newRequest(context.Background(), "k", "")).Code }()
			synctest.Wait()
		}
		got := map[int]int{}
		for range cap(codes) {
			got[<-codes]++
		}
		if got[http.StatusCreated] != 3 || got[http.StatusConflict] != 7 {
			t.Errorf("answers: %v", got)
		}
	})
}
