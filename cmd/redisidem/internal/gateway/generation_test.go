package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestReloadChangesNewRequestsOnly reloads while a request runs.
func TestReloadChangesNewRequestsOnly(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: POST /a, interrupted: run}]", Unscoped)
	began, proceed := make(chan struct{}), make(chan struct{})
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		if b.runs.Load() == 1 {
			close(began)
			<-proceed
		}
		_, _ = fmt.Fprintf(w, "order %d", b.runs.Load())
	})
	first := make(chan answered)
	go func() { first <- b.send("POST", "/a", "", "Idempotency-Key", "one") }()
	<-began
	var err error
	if b.config.Policies, err = readRoutes("defaults: {key: required}\nroutes: [{match: POST /b, key: optional}]"); err != nil {
		t.Fatal(err)
	}
	b.config.Identify = fromTenant(t)
	b.reload()
	b.want(b.send("POST", "/a", ""), 400, "missing", false)
	b.want(b.send("POST", "/b", ""), 200, "order 2", false)
	b.want(b.send("POST", "/a", "", "Idempotency-Key", "one"), 401, "not identified", false)
	close(proceed)
	b.want(<-first, 200, "order", false)
	b.config.Identify = Unscoped
	b.reload()
	b.want(b.send("POST", "/a", "", "Idempotency-Key", "one"), 200, "order", true)
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {key: required}", Unscoped)
	bad := b.config
	var err error
	if bad.Policies, err = readRoutes("routes:\n  - {match: POST /a}\n  - {match: POST /b, max_response: 9999999999}"); err != nil {
		t.Fatal(err)
	}
	bad.Identify = fromTenant(t)
	if err := b.gateway.Reload(bad); err == nil || !strings.Contains(err.Error(), "routes[1]: ") {
		t.Errorf("error is %v", err)
	}
	b.want(b.send("POST", "/a", ""), 400, "missing", false)
	b.want(b.send("POST", "/a", "", "Idempotency-Key", "one"), 201, "order 1", false)
}
