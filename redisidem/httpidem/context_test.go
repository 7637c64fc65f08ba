package httpidem_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

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

func TestNothingDoneIsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, status := range []func(int) httpidem.Disposition{httpidem.KeepFinal, httpidem.KeepAll} {
		s := newStore(t)
		seen := &results{}
		m := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: status}, Observer: seen.observe})
		reached := false
		var attempts []int
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			attempts = append(attempts, httpidem.Stage(r.Context()).Attempt())
			if !reached {
				httpidem.NothingDone(r.Context())
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, "try later")
				return
			}
			w.WriteHeader(http.StatusCreated)
		}))
		for range 2 {
			if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusServiceUnavailable || w.Body.String() != "try later" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if e := seen.last(t); e.Result != httpidem.ResultReleased || e.Err != nil {
				t.Errorf("%+v", e)
			}
		}
		reached = true
		if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusCreated {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if fmt.Sprint(attempts) != "[1 1 1]" {
			t.Errorf("attempts %v", attempts)
		}
		if w := call(h, newRequest(t.Context(), "k", "")); w.Header().Get("Idempotency-Replayed") != "true" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	httpidem.NothingDone(t.Context()) // outside of a protected request
}

func TestOutcomeThatIsUnknownIsNotKept(t *testing.T) {
	t.Parallel()
	for _, broken := range []func(w http.ResponseWriter){
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "half of an ans")
			panic(http.ErrAbortHandler)
		},
	} {
		s := newStore(t)
		m := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: httpidem.KeepAll}})
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if attempt := httpidem.Stage(r.Context()).Attempt(); attempt > 1 {
				_, _ = fmt.Fprint(w, "attempt ", attempt)
				return
			}
			httpidem.OutcomeUnknown(r.Context())
			broken(w)
		}))
		func() {
			defer func() { _ = recover() }() // as the server does
			if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusBadGateway {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}()
		for _, replayed := range []string{"", "true"} {
			w := call(h, newRequest(t.Context(), "k", ""))
			if w.Body.String() != "attempt 2" || w.Header().Get("Idempotency-Replayed") != replayed {
				t.Errorf("%d %s, replayed: %q", w.Code, w.Body, w.Header().Get("Idempotency-Replayed"))
			}
		}
	}
	httpidem.OutcomeUnknown(t.Context()) // outside of a protected request
}
