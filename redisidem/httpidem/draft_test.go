package httpidem_test

import (
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestDraft runs the clauses of the draft against a handler behind the middleware.
func TestDraft(t *testing.T) {
	t.Parallel()
	httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
		cfg := &httpidem.Config{
			Strict: o.Strict, Optional: o.Optional, Methods: o.Methods, PolicyURL: o.PolicyURL, PublishRetention: o.PublishRetention,
		}
		if o.UUIDs {
			cfg.CheckKey = httpidem.UUIDs
		}
		if o.Window > 0 {
			cfg.CheckKey = httpidem.WithinWindow(o.Window, o.Window)
		}
		if o.JSONFields != nil {
			cfg.Fingerprint.Func = httpidem.JSONFields(o.JSONFields...)
		}
		if o.KeepAll {
			cfg.Status = httpidem.KeepAll
		}
		s := newStore(t)
		server := serve(t, s.middleware(cfg).Handler(backend))
		return &httpclause.Target{
			URL:        server.URL,
			As:         func(r *http.Request, name string) { r.Header.Set(callerHeader, name) },
			StoreCalls: func() int { return int(s.calls.Load()) },
		}
	})
}
