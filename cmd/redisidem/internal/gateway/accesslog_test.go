package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestS11_CanaryIsInNoLogAndNoMetric sends secrets under names that are easily found.
func TestS11_CanaryIsInNoLogAndNoMetric(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: POST /ask, interrupted: ask, ask: '/by-key/{key}'}]", fromTenant(t),
		func(c *redisidem.Config) { c.CommitRetry = time.Second })
	send := func(path string, key string) answered {
		return b.send("POST", path+"?canary-query=1", "canary-body", "Idempotency-Key", key, "X-Tenant", "canary-scope",
			"Authorization", "Bearer canary-token")
	}
	send("/", "canary-key-1")
	send("/", "canary-key-1")
	b.send("POST", "/", "canary-other-body", "Idempotency-Key", "canary-key-1", "X-Tenant", "canary-scope")
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	send("/ask", "canary-key-2")
	send("/ask", "canary-key-2")
	send("/", `"canary-key-3`)
	b.redis.Close()
	problem := send("/", "canary-key-4")
	log := b.log.String()
	for name, text := range map[string]string{"log": log, "metrics": b.scrape(), "problem": problem.body} {
		if i := strings.Index(text, "canary"); i >= 0 {
			t.Errorf("the %s has %q", name, text[max(0, i-100):min(len(text), i+100)])
		}
	}
	id := b.service.Scope("canary-scope").ID("canary-key-1")
	if !strings.Contains(log, id) || !strings.Contains(log, `"result":"replayed"`) || strings.Count(log, `"msg":"request"`) != 7 {
		t.Errorf("the log is %s", log)
	}
	if text := b.scrape(); !strings.Contains(text, `redisidem_events_total{flow="",kind="replayed",stage=""} 1`) ||
		!strings.Contains(text, `redisidem_http_request_seconds_count{method="POST",replayed="true",status="201"} 1`) ||
		!strings.Contains(text, `redisidem_errors_total{kind="refused",reason="mismatch"} 1`) {
		t.Errorf("the metrics are %s", text)
	}
}
