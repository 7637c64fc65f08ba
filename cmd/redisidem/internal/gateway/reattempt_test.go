package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestInterruptedRequestsGoTheWayOfTheirPolicy(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: POST /run, interrupted: run}
  - {match: POST /refuse, interrupted: refuse}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
`, Unscoped)
	for _, path := range []string{"/run", "/refuse", "/ask"} {
		var asked []string
		b.answer(func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler) // the upstream breaks off: the outcome is unknown
		})
		b.want(b.send("POST", path, "body", "Idempotency-Key", "k 1"), 400, "", false) // a key that needs quotes
		b.want(b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`), 502, "did not answer", false)
		found := http.StatusServiceUnavailable
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.EscapedPath())
			if r.Method == http.MethodGet {
				w.WriteHeader(found)
				_, _ = fmt.Fprint(w, "as it was")
				return
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, "done now")
		})
		again := func() answered { return b.send("POST", path, "body", "Idempotency-Key", `"k/ 1`+path+`"`) }
		switch path {
		case "/run":
			b.want(again(), 201, "done now", false)
			b.want(again(), 201, "done now", true)
		case "/refuse":
			for range 3 {
				b.want(again(), 503, "outcome of the request is unknown", false)
			}
			if len(asked) != 0 {
				t.Errorf("the upstream was asked: %q", asked)
			}
		case "/ask":
			b.want(again(), 503, "outcome of the request is unknown", false)
			found = http.StatusOK
			b.want(again(), 200, "as it was", false)
			b.want(again(), 200, "as it was", true)
			if want := "GET /by-key/k%2F%201%2Fask"; len(asked) != 2 || asked[0] != want || asked[1] != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		}
	}
	// A key that would be another path.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the upstream is asked for %s %s", r.Method, r.URL)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", ".."), 503, "outcome of the request is unknown", false)
	// The upstream says that it has not done it.
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 502, "", false)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "sent again: %s", body)
	})
	b.want(b.send("POST", "/ask", "the body", "Idempotency-Key", "k2"), 200, "sent again: the body", false)
}

// TestRefusedInterruptedRequestSaysSoToAllSides looks at what the client and the operator get with
// the default policy.
func TestRefusedInterruptedRequestSaysSoToAllSides(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /stripe, profile: stripe}]", Unscoped)
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, path := range []string{"/", "/stripe"} {
		b.want(b.send("POST", path, "", "Idempotency-Key", "k"+path[1:]), 502, "", false)
	}
	b.answer(func(http.ResponseWriter, *http.Request) { t.Error("the upstream received the request again") })

	refused := b.send("POST", "/", "", "Idempotency-Key", "k")
	b.want(refused, 503, "Do not send the request with another key", false)
	var problem struct{ Type string }
	if err := json.Unmarshal([]byte(refused.body), &problem); err != nil || !strings.HasSuffix(problem.Type, "/docs/http.md#outcome-unknown") ||
		refused.header.Get("Idempotency-Problem") != "outcome-unknown" || refused.header.Get("Retry-After") != "60" {
		t.Errorf("%v %s", refused.header, refused.body)
	}
	stripe := b.send("POST", "/stripe", "", "Idempotency-Key", "kstripe")
	b.want(stripe, 503, `"code":"outcome_unknown"`, false)
	if stripe.header.Get("Stripe-Should-Retry") != "false" || stripe.header.Get("Retry-After") != "60" {
		t.Errorf("%v", stripe.header)
	}

	if text := b.scrape(); !strings.Contains(text, "redisidem_interrupted_refused_total 2") {
		t.Error(text)
	}
	warned := 0
	for line := range strings.Lines(b.log.String()) {
		var entry struct{ Level, Msg, Key, Settle string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Msg != "request refused: the outcome of an earlier attempt is unknown" {
			continue
		}
		warned++
		if entry.Level != "WARN" || entry.Key == "" || !strings.Contains(entry.Settle, "redisidem keys resolve") {
			t.Error(line)
		}
	}
	if warned != 2 || !strings.Contains(b.log.String(), b.id("k")) {
		t.Errorf("%d warnings in %s", warned, b.log.String())
	}
}

// TestOperatorSettlesAnUnknownOutcome does what the README describes, for work that was done and
// for work that was not.
func TestOperatorSettlesAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	inspector := redisidem.NewInspector(b.service)
	act := redisidem.Act{Actor: "operator", Reason: "the provider was asked"}
	for _, done := range []bool{true, false} {
		key := fmt.Sprint("done-", done)
		send := func() answered { return b.send("POST", "/charges", "cents=1200", "Idempotency-Key", key) }
		b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		b.want(send(), 502, "", false)
		b.want(send(), 503, "outcome of the request is unknown", false)

		ids := regexp.MustCompile(`"key":"([^"]+)","settle":`).FindAllStringSubmatch(b.log.String(), -1)
		if len(ids) == 0 {
			t.Fatalf("no line of the log says what settles a key:\n%s", b.log)
		}
		info, err := inspector.Find(t.Context(), ids[len(ids)-1][1])
		if err != nil {
			t.Fatal(err)
		}
		b.answer(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, "attempt ", r.Header.Get("Idempotency-Attempt"))
		})
		if done {
			if err := inspector.Resolve(t.Context(), info, redisidem.Finish(redisidem.JSON(201, "receipt")), act); err != nil {
				t.Fatal(err)
			}
			b.want(send(), 201, "receipt", true)
			continue
		}
		if err := inspector.Delete(t.Context(), info, act); err != nil {
			t.Fatal(err)
		}
		b.want(send(), 200, "attempt 1", false)
		b.want(send(), 200, "attempt 1", true)
	}
}

// TestUnknownOutcomeOfAFailureIsDescribed has an upstream that does answer the first attempt, with
// an error that is not kept.
func TestUnknownOutcomeOfAFailureIsDescribed(t *testing.T) {
	t.Parallel()
	for interrupted, retries := range map[string]string{
		"refuse": "wait for a decision", "run": "are forwarded again", "ask, ask: '/by/{key}'": "ask the upstream",
	} {
		b := setUp(t, "defaults: {interrupted: "+interrupted+"}", Unscoped)
		b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		b.send("POST", "/", "", "Idempotency-Key", "k")
		if !strings.Contains(b.log.String(), `"retries":"`+retries) {
			t.Errorf("%s: the log has %s", interrupted, b.log)
		}
		if interrupted != "refuse" {
			continue
		}
		if got := b.send("POST", "/", "", "Idempotency-Key", "k"); !strings.Contains(got.body, "#outcome-unknown") || strings.Contains(got.body, "did not answer") {
			t.Errorf("a retry gets %s", got.body)
		}
	}
}
