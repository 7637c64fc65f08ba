package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestResultsAreCountedByRoute sends one request for each of several results.
func TestResultsAreCountedByRoute(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes:\n  - match: POST /orders/{id}\n  - match: /open/\n    protect: false\n", Unscoped)
	b.want(b.send("POST", "/orders/1", "a", "Idempotency-Key", "k"), 201, "order 1", false)
	b.want(b.send("POST", "/orders/1", "a", "Idempotency-Key", "k"), 201, "order 1", true)
	b.want(b.send("POST", "/orders/1", "b", "Idempotency-Key", "k"), 422, "", false)
	b.send("POST", "/open/1", "")
	b.send("POST", "/elsewhere", "")
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/orders/1", "", "Idempotency-Key", "lost"), 502, "", false)
	b.want(b.send("POST", "/orders/1", "", "Idempotency-Key", "lost"), 503, "", false)
	text := b.scrape()
	for _, line := range []string{
		`redisidem_http_results_total{late="false",result="executed",route="POST /orders/{id}"} 1`,
		`redisidem_http_results_total{late="false",result="replayed",route="POST /orders/{id}"} 1`,
		`redisidem_http_results_total{late="false",result="mismatch",route="POST /orders/{id}"} 1`,
		`redisidem_http_results_total{late="false",result="outcome-unknown",route="POST /orders/{id}"} 1`,
		`redisidem_http_results_total{late="false",result="interrupted",route="POST /orders/{id}"} 1`,
		`redisidem_http_results_total{late="false",result="unprotected",route="/open/"} 1`,
		`redisidem_http_results_total{late="false",result="bypassed",route="default"} 1`,
		`redisidem_http_result_seconds_count{result="replayed",route="POST /orders/{id}"} 1`,
		`redisidem_interrupted_refused_total 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	b.logs(`"level":"WARN","msg":"the outcome of a request is unknown","key":"` + b.id("lost"))
	b.logs(`"result":"interrupted"`)
}

// TestLateResultsAreCounted has an upstream that is slower than its time limit.
func TestLateResultsAreCounted(t *testing.T) {
	t.Parallel()
	b := &bench{T: t}
	release := make(chan struct{})
	up := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusCreated)
	})
	b.serve(&Upstream{URL: parse(t, up), Timeout: 50 * time.Millisecond}, "", Unscoped)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k"), 504, "", false)
	close(release)
	b.logs("request ended after its client was answered")
	text := b.scrape()
	for _, line := range []string{
		`redisidem_http_results_total{late="false",result="timed-out",route="default"} 1`,
		`redisidem_http_results_total{late="true",result="executed",route="default"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing from %s", line, text)
		}
	}
}
