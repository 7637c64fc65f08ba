package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/internal/httpclause"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// TestDraft runs the clauses of the draft against gateway processes.
func TestDraft(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	httpclause.Run(t, func(t *testing.T, o httpclause.Options, backend http.Handler) *httpclause.Target {
		var rules strings.Builder
		rule := func(format string, args ...any) { fmt.Fprintf(&rules, "  "+format+"\n", args...) }
		rules.WriteString("defaults:\n")
		rule("interrupted: run") // a clause lets a client repeat a request after a 5xx
		rule("publish_retention: %v", o.PublishRetention)
		if !o.Optional {
			rule("key: required")
		}
		if o.Strict {
			rule("syntax: strict")
		}
		if o.Methods != nil {
			rule("methods: [%s]", strings.Join(o.Methods, ", "))
		}
		if o.UUIDs {
			rule("keys: uuid")
		}
		if o.Window > 0 {
			rule("key_window: %v", o.Window)
		}
		if o.JSONFields != nil {
			rule("fingerprint: {fields: [%s]}", strings.Join(o.JSONFields, ", "))
		}
		if o.KeepAll {
			rule("keep: all")
		}
		file := filepath.Join(t.TempDir(), "gateway.yaml")
		if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		up := httptest.NewServer(backend)
		t.Cleanup(up.Close)
		store := rediscase.Proxy(t, redis.Addr())
		p := start(t, store.Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant", "--config", file, "--policy-url="+o.PolicyURL,
			"--namespace", "draft-"+rand.Text())
		return &httpclause.Target{
			URL: p.url, As: func(r *http.Request, name string) { r.Header.Set("X-Tenant", name) },
			StoreCalls: func() int { return int(store.Requests()) },
		}
	})
}
