package httpidem_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestObserverThatPanicsChangesNoResponse has an executed, a replayed, a refused and a bypassed
// request.
func TestObserverThatPanicsChangesNoResponse(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	svc := newStore(t).service(redisidem.Config{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	m := newMiddleware(t, svc, &httpidem.Config{
		Key:      httpidem.KeyConfig{Optional: true},
		Observer: func(context.Context, httpidem.Event) { panic("defect") },
	})
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }))
	for _, c := range []struct {
		key, body string
		status    int
	}{{"k", "", 200}, {"k", "", 200}, {"k", "another", 422}, {"", "", 200}} {
		r := newRequest(t.Context(), c.key, c.body)
		if c.key == "" {
			r.Header.Del("Idempotency-Key")
		}
		if w := call(h, r); w.Code != c.status || c.status == 200 && w.Body.String() != "done" {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
	if n := strings.Count(text.String(), "the observer panicked"); n != 4 {
		t.Errorf("%d panics are logged: %s", n, text.String())
	}
}

// TestEventsHaveTheIDOfTheKey compares the ID in events with that in Redis.
func TestEventsHaveTheIDOfTheKey(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	var last httpidem.Event
	m := newMiddleware(t, svc, &httpidem.Config{
		Key: httpidem.KeyConfig{
			Prefix: "orders-", Optional: true, Sources: []httpidem.KeySource{{Header: "X-Key"}, {Body: "/id"}},
		},
		MaxBodyBytes: 20, PassTooLarge: true,
		Observer: func(_ context.Context, e httpidem.Event) { last = e },
	})
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }))
	stored := svc.Scope("alice").ID("orders-k")
	for _, c := range []struct {
		caller, key, body string
		result            httpidem.Result
		want              string
	}{
		{"alice", "k", "", httpidem.ResultExecuted, stored},
		{"alice", "k", "", httpidem.ResultReplayed, stored},
		{"alice", "k", "another", httpidem.ResultMismatch, stored},
		{"alice", "k", strings.Repeat("x", 21), httpidem.ResultBodyTooLarge, stored},
		{"alice", "large", strings.Repeat("x", 21), httpidem.ResultOversize, svc.Scope("alice").ID("orders-large")},
		{"alice", "", `{"id": "k"}`, httpidem.ResultMismatch, stored},
		{"alice", "", "", httpidem.ResultBypassed, ""},
		{"alice", `"`, "", httpidem.ResultMalformed, ""},
		{"", "k", "", httpidem.ResultFailed, ""},
	} {
		r := newRequest(t.Context(), "", c.body)
		r.Header.Del("Idempotency-Key")
		r.Header.Set(callerHeader, c.caller)
		if c.key != "" {
			r.Header.Set("X-Key", c.key)
		}
		call(h, r)
		if last.Result != c.result || last.KeyID() != c.want {
			t.Errorf("%+v: the event is of %v and has the ID %q", c, last.Result, last.KeyID())
		}
		if text := fmt.Sprintf("%v %+v", last, last); c.want == stored && strings.Contains(text, "orders-") {
			t.Errorf("a log of the event would have its key: %s", text)
		}
	}
	if info, err := redisidem.NewInspector(svc).Find(t.Context(), stored); err != nil || info.ID != stored {
		t.Errorf("the record is %+v, %v", info, err)
	}
	if id := (httpidem.Event{}).KeyID(); id != "" {
		t.Errorf("an event without a request has the ID %q", id)
	}
}
