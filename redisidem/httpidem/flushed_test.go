package httpidem_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

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
					lease = 300 * time.Millisecond
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
