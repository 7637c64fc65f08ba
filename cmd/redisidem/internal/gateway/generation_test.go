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
	if err := b.gateway.Reload(bad); err == nil || !strings.Contains(err.Error(), "routes[1].max_response: ") {
		t.Errorf("error is %v", err)
	}
	b.want(b.send("POST", "/a", ""), 400, "missing", false)
	b.want(b.send("POST", "/a", "", "Idempotency-Key", "one"), 201, "order 1", false)
}

// TestKeyWindowMustFitIntoTheRetention is about the retention that applies: the own one of the
// route, that of the defaults, or that of the service, which is 24 hours here.
func TestKeyWindowMustFitIntoTheRetention(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	for routes, want := range map[string]string{
		"defaults: {key_window: 12h}": "",
		"defaults: {key_window: 13h}": "defaults.key_window: must be at most half of the retention of 24h0m0s, " +
			"since a key is otherwise accepted after its record has expired: 13h0m0s",
		"defaults: {key_window: 2000000h}":                                                   "defaults.key_window: must be at most half of the retention of 24h0m0s",
		"defaults: {key_window: 13h, retention: 26h}":                                        "",
		"defaults: {key_window: 13h, retention: 25h}":                                        "defaults.key_window: must be at most half of the retention of 25h0m0s",
		"routes: [{match: POST /, key_window: 13h}]":                                         "routes[0].key_window: must be at most half of the retention of 24h0m0s",
		"{defaults: {key_window: 12h}, routes: [{match: POST /, retention: 1h}]}":            "routes[0].key_window: must be at most half of the retention of 1h0m0s",
		"{defaults: {retention: 48h}, routes: [{match: POST /, key_window: 24h}]}":           "",
		"{defaults: {key_window: 12h}, routes: [{match: /, protect: false, retention: 1h}]}": "",
	} {
		var err error
		if b.config.Policies, err = readRoutes(routes); err != nil {
			t.Errorf("%s: %v", routes, err)
			continue
		}
		if err := b.gateway.Reload(b.config); (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", routes, err, want)
		}
	}
}
