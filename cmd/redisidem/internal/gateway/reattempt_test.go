package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// record returns the name of the record of a key of a caller without a scope.
func (b *bench) record(key string) string {
	b.Helper()
	for _, name := range b.redis.Keys() {
		if strings.HasSuffix(name, b.id(key)) {
			return name
		}
	}
	b.Fatalf("%s has no record", key)
	return ""
}

// TestUnknownOutcomesOutliveTheRetention is about keys whose retries are refused. If their records
// ended with the retention, the next retry would be a first attempt.
func TestUnknownOutcomesOutliveTheRetention(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /run, interrupted: run}, {match: /short, retention: 30m}]", Unscoped, func(cfg *redisidem.Config) {
		cfg.Retention, cfg.DeadLetterRetention = time.Hour, 100*time.Hour
	})
	lives := func(key string, want time.Duration) {
		t.Helper()
		if ttl := b.redis.TTL(b.record(key)); ttl < want-time.Minute || ttl > want+time.Minute {
			t.Errorf("the record of %s lives for %v, want %v", key, ttl, want)
		}
	}
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, path := range []string{"/", "/short", "/run"} {
		b.want(b.send("POST", path, "", "Idempotency-Key", "broken"+path[1:]), 502, "", false)
	}
	lives("broken", 100*time.Hour)
	lives("brokenshort", 100*time.Hour)
	lives("brokenrun", time.Hour)
	b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	b.want(b.send("POST", "/", "", "Idempotency-Key", "failed"), 500, "", false)
	lives("failed", 100*time.Hour)
	b.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	b.want(b.send("POST", "/", "", "Idempotency-Key", "refused"), 429, "", false)
	lives("refused", time.Hour)
	// A gateway that was killed leaves the life of its claim. The first refusal extends it.
	b.redis.SetTTL(b.record("broken"), 30*time.Minute)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "broken"), 503, "outcome of the request is unknown", false)
	lives("broken", 100*time.Hour)
}

// TestNoAttemptBeforeTheOneOfALostGatewayIsOver has a request whose lock is gone while the upstream
// is at work, as it is after its gateway was killed.
func TestNoAttemptBeforeTheOneOfALostGatewayIsOver(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/run", "/ask", "/refuse"} {
		t.Run(path[1:], func(t *testing.T) {
			t.Parallel()
			const hold = 3 * time.Second
			b := setUp(t, `
routes:
  - {match: POST /run, interrupted: run}
  - {match: POST /ask, interrupted: ask, ask: "/by-key/{key}"}
  - {match: POST /refuse}
`, Unscoped, func(cfg *redisidem.Config) { cfg.MaxHold = hold })
			var attempts, atWork, found atomic.Int64
			found.Store(http.StatusNotFound)
			b.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					w.WriteHeader(int(found.Load()))
					return
				}
				if atWork.Add(1) > 1 {
					t.Error("two attempts are at work")
				}
				defer atWork.Add(-1)
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice the end of the connection
				if attempts.Add(1) == 1 {
					<-r.Context().Done()
				}
				w.WriteHeader(http.StatusCreated)
			})
			send := func() answered { return b.send("POST", path, "body", "Idempotency-Key", "k") }
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				send()
			}()
			defer func() { <-ended }()
			for attempts.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			b.redis.Del(b.record("k") + ":lock")
			if path == "/refuse" {
				b.want(send(), 503, "outcome of the request is unknown", false)
				return
			}
			for range 3 {
				refused := send()
				b.want(refused, 409, "may still be at work", false)
				if seconds := refused.header.Get("Retry-After"); seconds < "1" || seconds > "3" || refused.header.Get("Idempotency-Problem") != "in-flight" {
					t.Errorf("%v", refused.header)
				}
			}
			if path == "/ask" { // an answer is not a second attempt
				found.Store(http.StatusOK)
				b.want(send(), 200, "", false)
				return
			}
			got := send()
			for got.status == http.StatusConflict && time.Since(began) < time.Minute {
				time.Sleep(10 * time.Millisecond)
				got = send()
			}
			b.want(got, 201, "", false)
			if took := time.Since(began); took < hold-time.Second {
				t.Errorf("the second attempt began after %v", took)
			}
			if text := b.scrape(); !strings.Contains(text, `result="in-flight",route="POST /run"`) {
				t.Error(text)
			}
		})
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
