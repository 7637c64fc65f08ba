package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// limit replaces the gateway by one with a quota.
func (b *bench) limit(cfg redisidem.QuotaConfig) {
	b.Helper()
	b.metrics = NewMetrics()
	b.config.Metrics, b.config.Quota = b.metrics, &cfg
	var err error
	if b.gateway, err = New(b.config); err != nil {
		b.Fatal(err)
	}
	b.gateway.RedisUsable()
	b.server, b.admin = httptest.NewServer(b.gateway.Handler()), httptest.NewServer(b.gateway.Admin())
	b.Cleanup(b.gateway.Close)
	b.Cleanup(func() { b.gateway.LeaveQuota(context.Background()) })
	b.Cleanup(b.server.Close)
	b.Cleanup(b.admin.Close)
}

// TestGatewaysShareTheQuotaOfAScope sends the requests of a scope to two gateways in turn.
func TestGatewaysShareTheQuotaOfAScope(t *testing.T) {
	t.Parallel()
	one := setUp(t, "", fromTenant(t))
	two := setUpAt(t, one.addr, "", fromTenant(t))
	for _, b := range []*bench{one, two} {
		b.limit(redisidem.QuotaConfig{InFlight: 10, Stored: 6, Window: time.Hour})
	}
	created, refused := 0, 0
	for i := range 12 {
		b := []*bench{one, two}[i%2]
		switch got := b.send("POST", "/orders", "{}", "Idempotency-Key", "key-"+string(rune('a'+i)), "X-Tenant", "acme"); got.status {
		case http.StatusCreated:
			created++
		case http.StatusTooManyRequests:
			refused++
		default:
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if created != 6 || refused != 6 {
		t.Errorf("%d were created and %d refused, want 6 and 6", created, refused)
	}
	for i := range 6 { // retries at the other gateway
		b := []*bench{two, one}[i%2]
		b.want(b.send("POST", "/orders", "{}", "Idempotency-Key", "key-"+string(rune('a'+i)), "X-Tenant", "acme"), http.StatusCreated, "order", true)
	}
	scrape := one.scrape()
	for _, line := range []string{
		`redisidem_scope_use_ratio{quota="in-flight"} `, `redisidem_scope_use_ratio{quota="keys"} `, "redisidem_scope_shares 1",
		`redisidem_scope_calls_total{result="answered"} `, `redisidem_scope_calls_total{result="failed"} 0`, "redisidem_scope_refused_total ",
		"redisidem_scope_alone_total 0",
	} {
		if !strings.Contains(scrape, line) {
			t.Errorf("the scrape has no %s", line)
		}
	}
	if strings.Contains(scrape, "acme") {
		t.Error("the scrape names the scope")
	}
}

// TestGatewayWithoutAQuotaAsksForNone looks at Redis, the metrics and the middleware's Config.
func TestGatewayWithoutAQuotaAsksForNone(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", fromTenant(t))
	b.want(b.send("POST", "/orders", "{}", "Idempotency-Key", "key", "X-Tenant", "acme"), http.StatusCreated, "order", false)
	for _, key := range b.redis.Keys() {
		if strings.Contains(key, ":quota:") {
			t.Errorf("Redis has %s", key)
		}
	}
	if b.gateway.limits() != nil || strings.Contains(b.scrape(), "redisidem_scope_") {
		t.Error("there is a quota")
	}
	b.gateway.LeaveQuota(context.Background())
}

// TestGatewayLeavesItsQuotaAfterALateShutdown ends a gateway whose time for the shutdown is over.
func TestGatewayLeavesItsQuotaAfterALateShutdown(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", fromTenant(t))
	b.limit(redisidem.QuotaConfig{InFlight: 10})
	b.want(b.send("POST", "/orders", "{}", "Idempotency-Key", "key", "X-Tenant", "acme"), http.StatusCreated, "order", false)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	b.gateway.LeaveQuota(over)
	for _, key := range b.redis.Keys() {
		if strings.Contains(key, ":quota:") {
			t.Errorf("Redis has %s", key)
		}
	}
}

// TestReloadChangesTheWindowOfTheQuota reloads a gateway with records that are kept for longer.
func TestReloadChangesTheWindowOfTheQuota(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", fromTenant(t))
	b.limit(redisidem.QuotaConfig{Stored: 10, Window: time.Hour})
	next := b.config
	next.Quota = &redisidem.QuotaConfig{Stored: 10, Window: 48 * time.Hour}
	if err := b.gateway.Reload(next); err != nil {
		t.Fatal(err)
	}
	b.want(b.send("POST", "/orders", "{}", "Idempotency-Key", "key", "X-Tenant", "acme"), http.StatusCreated, "order", false)
	for _, key := range b.redis.Keys() {
		if ttl := b.redis.TTL(key); strings.Contains(key, ":quota:") && ttl < 48*time.Hour {
			t.Errorf("Redis forgets the records after %v", ttl)
		}
	}
}
