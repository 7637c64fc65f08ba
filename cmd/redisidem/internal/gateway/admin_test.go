package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestReadyzSaysWhetherTheGatewayShouldGetRequests goes through the settings for a Redis that is
// away.
func TestReadyzSaysWhetherTheGatewayShouldGetRequests(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped, func(c *redisidem.Config) { c.Timeout = time.Second })
	n := &b.gateway.readiness
	const answers, away = "redis: accepts writes", "connection refused"
	for _, c := range []struct {
		withoutRedis         string
		usable, up, draining bool
		status               int
		words                string
	}{
		{"never", true, true, false, 200, answers},
		{"never", false, true, false, 503, "not checked yet"},
		{"after-start", false, true, false, 503, "not checked yet"},
		{"always", false, true, false, 200, "not checked yet"},
		{"always", true, true, true, 503, "not ready: shutting down\n" + answers},
		{"never", true, false, false, 503, away}, // from here on it is away
		{"after-start", true, false, false, 200, away},
		{"after-start", false, false, false, 503, away},
		{"always", false, false, false, 200, away},
		{"always", false, false, true, 503, away},
	} {
		if !c.up {
			b.redis.Close()
		}
		n.withoutRedis = c.withoutRedis
		n.usable.Store(c.usable)
		n.draining.Store(c.draining)
		if status, text := b.operator("/readyz"); status != c.status || !strings.Contains(text, c.words) {
			t.Errorf("%+v: %d %s", c, status, text)
		}
		if status, _ := b.operator("/livez"); status != http.StatusOK {
			t.Errorf("%+v: not alive: %d", c, status)
		}
	}
}

// TestReadyzByRouteLooksAtTheRoutesUntilRedisCouldBeUsed has a Redis that was never reached.
func TestReadyzByRouteLooksAtTheRoutesUntilRedisCouldBeUsed(t *testing.T) {
	t.Parallel()
	const needed = `routes: [{match: POST /a, key: required}]`
	b := setUp(t, needed, Unscoped, func(c *redisidem.Config) { c.Timeout = 100 * time.Millisecond })
	b.redis.Close()
	n := &b.gateway.readiness
	n.withoutRedis = "by-route"
	for _, c := range []struct {
		text             string
		usable, draining bool
		status           int
	}{
		{needed, false, false, 503},
		{needed, true, false, 200}, // the failure of a Redis that all replicas share
		{`defaults: {without_redis: pass}`, false, false, 200},
		{`defaults: {protect: false}`, false, false, 200},
		{`routes: [{match: POST /a}, {match: POST /b, protect: false}]`, false, false, 200},
		{`routes: [{match: POST /a}, {match: POST /b, without_redis: pass}]`, false, true, 503},
		{`routes: [{match: POST /a}, {match: POST /b, without_redis: pass}]`, false, false, 200},
		{needed, false, false, 503},
	} {
		var err error
		if b.config.Policies, err = readRoutes(c.text); err != nil {
			t.Fatal(err)
		}
		b.reload()
		n.usable.Store(c.usable)
		n.draining.Store(c.draining)
		if status, text := b.operator("/readyz"); status != c.status {
			t.Errorf("%+v: %d %s", c, status, text)
		}
	}
}

func TestReadyzOfAGatewayWithoutAServerSaysSo(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.gateway.readiness.inMemory = true
	if status, text := b.operator("/readyz"); status != http.StatusOK || !strings.Contains(text, "for a trial only") {
		t.Errorf("%d %s", status, text)
	}
}

// TestReadyzSeesARedisThatRefusesWrites has a Redis that answers reads.
func TestReadyzSeesARedisThatRefusesWrites(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	defer b.redis.SetError("")
	if status, text := b.operator("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "OOM") {
		t.Errorf("%d %s", status, text)
	}
}

func TestDrainingGatewayServesAndAsksItsClientsToConnectAgain(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	for _, draining := range []bool{false, true} {
		if draining {
			b.gateway.Drain()
		}
		got := b.send("POST", "/", "", "Idempotency-Key", "k")
		b.want(got, 201, "order 1", draining)
		if got.closes != draining {
			t.Errorf("draining %t: the answer closes its connection: %t", draining, got.closes)
		}
	}
}

// TestDrainAsksClientsOfRequestsUnderWayToConnectAgain has requests that began before the drain and
// are answered during it. Their clients would otherwise reuse connections that are about to end.
func TestDrainAsksClientsOfRequestsUnderWayToConnectAgain(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /open, protect: false}]", Unscoped)
	answers := map[string]http.HandlerFunc{
		"status":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) },
		"body":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("order")) },
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"hints": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
		},
	}
	for name, answer := range answers {
		for _, path := range []string{"/", "/open"} {
			b.gateway.readiness.draining.Store(false)
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				b.gateway.Drain()
				answer(w, r)
			})
			if got := b.send("POST", path, "", "Idempotency-Key", name); !got.closes || got.status >= 300 {
				t.Errorf("%s with %s: status %d, closes its connection: %t", path, name, got.status, got.closes)
			}
		}
	}
}
