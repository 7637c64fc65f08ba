package httpidem_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS1_TwoTenantsWithTheSameKeyAreTwoExecutions(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	h := counting(func(w http.ResponseWriter, r *http.Request) { created("for "+r.Header.Get(callerHeader))(w, r) })
	server := serve(t, m.Handler(h))
	for range 2 {
		for _, name := range []string{"alice", "bob"} {
			a := post(t, server.URL, "k", "same", func(r *http.Request) { r.Header.Set(callerHeader, name) })
			if a.body != "for "+name {
				t.Errorf("%s got %q", name, a.body)
			}
		}
	}
	h.ran(t, 2)
}

func TestS1_ScopeIsNeverShared(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	revoked := errors.New("revoked")
	for _, c := range []struct {
		name   string
		scope  httpidem.ScopeFunc
		status int
	}{
		{"empty", func(*http.Request) (string, error) { return "", nil }, http.StatusInternalServerError},
		{"too long", func(*http.Request) (string, error) { return strings.Repeat("x", 256), nil }, http.StatusInternalServerError},
		{"refused", func(*http.Request) (string, error) { return "alice", revoked }, http.StatusForbidden},
	} {
		seen := &results{}
		m, err := httpidem.New(svc, c.scope, &httpidem.Config{Observer: seen.observe})
		if err != nil {
			t.Fatal(err)
		}
		h := counting(created("done"))
		w := call(m.Handler(h), newRequest(t.Context(), "k", "b"))
		if w.Code != c.status || strings.Contains(w.Body.String(), "revoked") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if e := seen.last(t); e.Err == nil || c.name == "refused" && !errors.Is(e.Err, revoked) {
			t.Errorf("%s: %+v", c.name, e)
		}
		h.ran(t, 0)
	}
	if n := s.calls.Load(); n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
	if _, err := httpidem.New(svc, nil, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("no scope function: %v", err)
	}
}

func TestS2_RevokedCallerDoesNotGetTheStoredAnswer(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	revoked := false
	auth := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if revoked {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		m.Handler(created("secret")).ServeHTTP(w, r)
	})
	if w := call(auth, newRequest(t.Context(), "k", "")); w.Body.String() != "secret" {
		t.Fatal(w)
	}
	revoked = true
	if w := call(auth, newRequest(t.Context(), "k", "")); w.Code != http.StatusUnauthorized || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestS1_UnscopedIsOneScope(t *testing.T) {
	t.Parallel()
	m, err := httpidem.New(newStore(t).service(redisidem.Config{}), httpidem.Unscoped, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := counting(created("done"))
	for _, name := range []string{"alice", "bob"} {
		r := newRequest(t.Context(), "k", "")
		r.Header.Set(callerHeader, name)
		call(m.Handler(h), r)
	}
	h.ran(t, 1)
}

// TestS16_KeysOfOthersAreNoOracle compares what bob gets, and how fast, for keys that alice has
// used with what he gets for keys that do not exist.
func TestS16_KeysOfOthersAreNoOracle(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	begun, release := make(chan struct{}), make(chan struct{})
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hold") != "" {
			close(begun)
			<-release
		}
		w.WriteHeader(http.StatusCreated)
	}))
	held := make(chan struct{})
	go func() {
		defer close(held)
		r := newRequest(t.Context(), "in-flight", "")
		r.Header.Set("X-Hold", "1")
		call(h, r)
	}()
	<-begun
	bob := func(key string) (time.Duration, *http.Response) {
		r := newRequest(t.Context(), key, "bob's")
		r.Header.Set(callerHeader, "bob")
		began := time.Now()
		w := call(h, r)
		return time.Since(began), w.Result()
	}
	const n = 400
	for i := range n {
		call(h, newRequest(t.Context(), "known-"+strconv.Itoa(i), "alice's"))
	}
	var known, unknown []time.Duration
	for i := range n {
		for name, times := range map[string]*[]time.Duration{"known-": &known, "other-": &unknown} {
			took, a := bob(name + strconv.Itoa(i))
			if a.StatusCode != http.StatusCreated || a.Header.Get("Idempotency-Replayed") != "" {
				t.Fatalf("%s%d: %d %v", name, i, a.StatusCode, a.Header)
			}
			*times = append(*times, took)
		}
	}
	if _, a := bob("in-flight"); a.StatusCode != http.StatusCreated {
		t.Errorf("in flight elsewhere: %d", a.StatusCode)
	}
	close(release)
	<-held
	slices.Sort(known)
	slices.Sort(unknown)
	if a, b := known[n/2], unknown[n/2]; a > 2*b || b > 2*a {
		t.Errorf("half of the keys that another knows took at most %v, of keys that do not exist %v", a, b)
	}
}
