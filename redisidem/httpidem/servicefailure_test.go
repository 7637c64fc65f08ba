package httpidem_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

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
			svc := s.service(redisidem.Config{Timeout: 2 * time.Second}) // for the claim too, and the machine may be busy
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

// TestRequestWhoseRecordIsLostIsNeverOutstanding empties the store while a request is being worked
// on. Its client gets the answer, or a problem that the outcome is unknown, and never that another
// server works on it.
func TestRequestWhoseRecordIsLostIsNeverOutstanding(t *testing.T) {
	t.Parallel()
	for work, handler := range map[string]func(testing.TB, *observed, func(context.Context)) http.Handler{
		"handler": func(_ testing.TB, m *observed, do func(context.Context)) http.Handler {
			return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				do(r.Context())
				w.WriteHeader(http.StatusCreated)
			}))
		},
		"first stage": func(t testing.TB, m *observed, do func(context.Context)) http.Handler {
			return twoStages(t, m, do, func(context.Context) {})
		},
		"last stage": func(t testing.TB, m *observed, do func(context.Context)) http.Handler {
			return twoStages(t, m, func(context.Context) {}, do)
		},
	} {
		for name, retried := range map[string]string{
			"and no retry comes":              "",
			"and a retry is faster":           "faster",
			"and a retry is under way":        "under way",
			"and the lease is lost meanwhile": "renewed",
		} {
			t.Run(work+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newStore(t)
				lease := 10 * time.Second
				if retried == "renewed" {
					lease = 3 * time.Second
				}
				m := newMiddleware(t, s.service(redisidem.Config{Lease: lease}), nil)
				var runs atomic.Int64
				var url string
				answered, ended, second := make(chan struct{}), make(chan struct{}), make(chan answer, 1)
				retry := func() {
					a, err := try(t.Context(), url, "k", "{}")
					if err != nil {
						t.Error(err)
					}
					second <- a
				}
				url = serve(t, handler(t, m, func(ctx context.Context) {
					if runs.Add(1) > 1 {
						close(answered)
						if retried == "under way" {
							<-ended
						}
						return
					}
					s.redis.FlushAll()
					switch retried {
					case "faster":
						retry()
					case "under way":
						go retry()
						<-answered
					case "renewed":
						<-ctx.Done() // which the next renewal finds out
					}
				})).URL
				first := post(t, url, "k", "{}")
				close(ended)
				if first.StatusCode != http.StatusCreated && first.StatusCode != http.StatusServiceUnavailable || first.replayed() {
					t.Errorf("the first client gets %d: %s", first.StatusCode, first.body)
				}
				if retried == "" || retried == "renewed" {
					retry()
				}
				if a := <-second; a.StatusCode != http.StatusCreated {
					t.Errorf("the retry gets %d: %s", a.StatusCode, a.body)
				}
				wantStatus(t, post(t, url, "k", "{}"), http.StatusCreated)
				if runs.Load() != 2 {
					t.Errorf("%d runs", runs.Load())
				}
			})
		}
	}
}

// twoStages makes a flow of two stages that do something.
func twoStages(t testing.TB, m *observed, first, last func(context.Context)) http.Handler {
	t.Helper()
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "two", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			first(ctx)
			return redisidem.Next(), nil
		}},
		{Point: "last", Work: func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			last(ctx)
			return redisidem.Finish(redisidem.JSON(http.StatusCreated, "done")), nil
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := m.Flow(flow, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
