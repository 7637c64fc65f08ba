package httpidem_test

import (
	"bytes"
	"context"
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
