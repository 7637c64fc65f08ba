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

// TestLogsNameTheKeyThatRedisHas follows the key of each line of the log to its record. A prefix
// makes it another key than the client's.
func TestLogsNameTheKeyThatRedisHas(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {key_prefix: o-}
routes:
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
  - {match: POST /hooks, key_from: [{body: /id}]}
`, Unscoped)
	inspector := redisidem.NewInspector(b.service)
	lines := 0
	logged := func(what, key string, messages ...string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(b.log.String(), `"msg":"request"`); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the request is not logged", what)
			}
		}
		text := b.log.String()
		b.log.reset()
		if _, err := inspector.Find(t.Context(), b.id("o-"+key)); err != nil {
			t.Errorf("%s: there is no record: %v", what, err)
		}
		for _, message := range messages {
			found := false
			for line := range strings.Lines(text) {
				if strings.Contains(line, `"msg":"`+message) {
					found = true
					lines++
					if !strings.Contains(line, `"key":"`+b.id("o-"+key)+`"`) {
						t.Errorf("%s: the line has another key: %s", what, line)
					}
				}
			}
			if !found {
				t.Errorf("%s: no line has %q: %s", what, message, text)
			}
		}
	}
	b.send("POST", "/", "", "Idempotency-Key", "k")
	logged("executed", "k", `request"`)
	b.send("POST", "/", "", "Idempotency-Key", "k")
	logged("replayed", "k", `request"`)
	b.send("POST", "/", "another", "Idempotency-Key", "k")
	logged("another request", "k", `request"`)
	b.send("POST", "/hooks", `{"id": "h"}`)
	logged("a key in the body", "h", `request"`)
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, path := range []string{"/", "/ask"} {
		key := "unknown" + path
		b.send("POST", path, "", "Idempotency-Key", key)
		logged("an upstream that breaks off", key, "the outcome of a request is unknown", `request"`)
		b.send("POST", path, "", "Idempotency-Key", key)
		logged("a retry of it", key, "request refused: the outcome of an earlier attempt is unknown", `request"`)
	}
	if lines != 12 {
		t.Errorf("%d lines were followed", lines)
	}
}

// TestLateLogsNameTheKeyThatRedisHas has a client that does not wait for the upstream's answer.
func TestLateLogsNameTheKeyThatRedisHas(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {key_prefix: o-}", Unscoped)
	b.config.Upstream.Timeout = 20 * time.Millisecond
	b.reload()
	end := make(chan struct{})
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		<-end
		w.WriteHeader(http.StatusCreated)
	})
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 504, "", false)
	close(end)
	for deadline := time.Now().Add(10 * time.Second); strings.Count(b.log.String(), `"key":`) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the request has not ended: %s", b.log.String())
		}
	}
	if text := b.log.String(); strings.Count(text, `"key":"`+b.id("o-k")+`"`) != 2 || !strings.Contains(text, "request ended after its client was answered") {
		t.Errorf("the log is %s", text)
	}
}
