package httpidem_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestDraft runs the clauses of the draft against a handler behind the middleware.
func TestDraft(t *testing.T) {
	t.Parallel()
	httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
		return target(t, newStore(t), redisidem.Config{}, o, backend)
	})
}

// TestDraftOnARealServer is TestDraft on a server process, with the commands of concurrent requests
// in common pipelines.
func TestDraftOnARealServer(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	var namespaces atomic.Int64
	t.Run("clauses", func(t *testing.T) {
		httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
			cfg := redisidem.Config{Namespace: fmt.Sprint("clause", namespaces.Add(1)), AutoPipeline: true}
			return target(t, &store{TB: t, addr: server.Addr()}, cfg, o, backend)
		})
	})
}

func target(t *testing.T, s *store, core redisidem.Config, o httpclause.Options, backend http.Handler) *httpclause.Target {
	t.Helper()
	cfg := &httpidem.Config{
		Key: httpidem.KeyConfig{Strict: o.Strict, Optional: o.Optional}, Methods: o.Methods, PolicyURL: o.PolicyURL, PublishRetention: o.PublishRetention,
	}
	if o.UUIDs {
		cfg.Key.Check = httpidem.UUIDKeys
	}
	if o.Window > 0 {
		cfg.Key.Check = httpidem.KeysWithin(o.Window, o.Window)
	}
	if o.JSONFields != nil {
		cfg.Fingerprint.Func = httpidem.JSONFields(o.JSONFields...)
	}
	if o.KeepAll {
		cfg.Response.Status = httpidem.KeepAll
	}
	server := serve(t, newMiddleware(t, s.service(core), cfg).Handler(backend))
	return &httpclause.Target{
		URL:        server.URL,
		As:         func(r *http.Request, name string) { r.Header.Set(callerHeader, name) },
		StoreCalls: func() int { return int(s.calls.Load()) },
	}
}

func TestDraft_2_5_2_ThePolicyIsPublished(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, policy, _ := strings.Cut(page, "## A policy to publish")
	policy, _, _ = strings.Cut(policy, "\n## ")
	for what, want := range map[string]string{
		"required or not": "require the header field `Idempotency-Key`", "format": "RFC 8941", "scope": "**Scope.**", "retention": "24 hours",
		"fingerprint": "the bytes of the body", "stored statuses": "from 200 to 499, except 401",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy does not tell: %s", what)
		}
	}
	for _, name := range httpclause.Names() {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the table of clauses is without %s", name)
		}
	}
	for r := httpidem.ResultMissing; r <= httpidem.ResultFailed; r++ {
		if r == httpidem.ResultOpened || r == httpidem.ResultSuperseded {
			continue // no problems of their own
		}
		if !strings.Contains(page, `<a id="`+httpidem.ProblemName(r)+`">`) {
			t.Errorf("the type of the problem %s leads nowhere", httpidem.ProblemName(r))
		}
	}
}
