package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/nodetest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/tcpproxy"
)

// stripeRoutes are routes for Stripe's client, whose resources stand for policies.
const stripeRoutes = `
defaults: {profile: stripe, interrupted: run}
routes:
  - {match: /v1/refunds, interrupted: refuse}
  - {match: /v1/payouts, keep: all}
  - {match: "DELETE /v1/customers/{id}", key: required}
  - {match: /v1/transfers, max_body: 12, key: required}
  - {match: /v1/topups, max_response: 16}
  - {match: /v1/coupons, protect: false}
`

// stripeAPI is a service that speaks as much of Stripe's API as charges take. What is described as
// declined, failing, broken or held is treated so: failing and broken once, and held until release
// is called.
type stripeAPI struct {
	*httptest.Server
	release func()
	held    chan struct{} // gets one for each request that is held

	mu   sync.Mutex
	runs map[string]int // by description
}

func newStripeAPI(t *testing.T) *stripeAPI {
	t.Helper()
	hold := make(chan struct{})
	s := &stripeAPI{release: sync.OnceFunc(func() { close(hold) }), held: make(chan struct{}, 100), runs: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		description := r.PostFormValue("description")
		kind, _, _ := strings.Cut(description, " ")
		s.mu.Lock()
		s.runs[description]++
		n := s.runs[description]
		s.mu.Unlock()
		status, body := http.StatusOK, map[string]any{
			"id": "ch_" + strings.ReplaceAll(description, " ", "_") + "_" + strconv.Itoa(n), "object": "charge", "amount": 100,
		}
		switch {
		case kind == "declined":
			status = http.StatusPaymentRequired
			body = map[string]any{"error": map[string]string{"type": "card_error", "code": "card_declined", "message": "Declined."}}
		case kind == "failing" && n == 1:
			status = http.StatusInternalServerError
			body = map[string]any{"error": map[string]string{"type": "api_error", "message": "Something broke."}}
		case kind == "broken" && n == 1:
			panic(http.ErrAbortHandler)
		case kind == "held":
			s.held <- struct{}{}
			<-hold
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", "req_"+strconv.Itoa(n))
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(func() {
		s.release()
		s.Close()
	})
	return s
}

func (s *stripeAPI) ran(description string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[description]
}

// stripeCall is a call of Stripe's client.
type stripeCall struct {
	Resource string        `json:"resource"`
	Method   string        `json:"method"`
	Args     []any         `json:"args"`
	Options  stripeOptions `json:"options"`
}

type stripeOptions struct {
	Key     string `json:"idempotencyKey,omitempty"`
	Retries int    `json:"maxNetworkRetries"`
	Timeout int    `json:"timeout,omitempty"` // in milliseconds
}

// stripeAnswer is what became of a call: an object, or an error.
type stripeAnswer struct {
	ID        string `json:"id"`
	Replayed  bool   `json:"replayed"`
	RequestID string `json:"requestId"`
	Error     struct {
		Type    string `json:"type"` // the error's class
		RawType string `json:"rawType"`
		Code    string `json:"code"`
		Status  int    `json:"status"`
		Message string `json:"message"`
	} `json:"error"`
}

// stripeCase is Stripe's client in front of a gateway.
type stripeCase struct {
	*testing.T
	api     *stripeAPI
	gateway *process
	client  *nodetest.Client
}

func newStripeCase(t *testing.T, redis string, args ...string) *stripeCase {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(stripeRoutes), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &stripeCase{T: t, api: newStripeAPI(t)}
	args = append([]string{"--upstream", c.api.URL, "--config", file}, args...)
	c.gateway = start(t, redis, args...)
	c.client = nodetest.Start(t, "testdata/stripe-node", c.gateway.url)
	return c
}

// create makes a charge, or something that is named so, and checks how many requests that took.
func (c *stripeCase) create(resource, description string, o stripeOptions, requests int) stripeAnswer {
	c.Helper()
	return c.call(stripeCall{resource, "create", []any{map[string]any{"amount": 100, "description": description}}, o}, requests)
}

func (c *stripeCase) call(call stripeCall, requests int) (a stripeAnswer) {
	c.Helper()
	before := c.requests()
	if err := c.client.Call(call, &a); err != nil {
		c.Fatal(err)
	}
	made := 0
	for range 1000 { // the log may be behind
		if made = c.requests() - before; made >= requests {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if requests > 0 && made != requests {
		c.Errorf("the client has sent %d requests, want %d; it got %+v", made, requests, a)
	}
	return a
}

func (c *stripeCase) requests() int { return strings.Count(c.gateway.text(), `"msg":"request"`) }

// fails checks the error of a call, which it names by the class, the status and the code.
func (c *stripeCase) fails(a stripeAnswer, class string, status int, code string) {
	c.Helper()
	if a.Error.Type != class || a.Error.Status != status || a.Error.Code != code || a.Error.Message == "" {
		c.Errorf("the client got %+v, want a %s with %d and %q", a, class, status, code)
	}
}

func (c *stripeCase) ran(description string, times int) {
	c.Helper()
	if n := c.api.ran(description); n != times {
		c.Errorf("%q ran %d times, want %d", description, n, times)
	}
}

// TestStripeClientUnderstandsTheGateway makes calls with Stripe's own client, through a gateway on
// a real server.
func TestStripeClientUnderstandsTheGateway(t *testing.T) {
	t.Parallel()
	redis := rediscase.Server(t)
	c := newStripeCase(t, redis.Addr(), "--scope", "unscoped", "--redis-timeout", "2s")

	t.Run("a retry gets the same object", func(t *testing.T) {
		c := c.in(t)
		first := c.create("charges", "fine", stripeOptions{Key: "fine"}, 1)
		again := c.create("charges", "fine", stripeOptions{Key: "fine"}, 1)
		if first.ID != "ch_fine_1" || first.Replayed || again.ID != first.ID || !again.Replayed || again.RequestID != "req_1" {
			t.Errorf("the client got %+v, and then %+v", first, again)
		}
		c.ran("fine", 1)
	})
	t.Run("a key that the client made itself", func(t *testing.T) {
		c := c.in(t)
		if a := c.create("charges", "own", stripeOptions{}, 1); a.ID != "ch_own_1" {
			t.Errorf("the client got %+v", a)
		}
	})
	t.Run("other parameters", func(t *testing.T) {
		c := c.in(t)
		c.create("charges", "one", stripeOptions{Key: "one"}, 1)
		a := c.create("charges", "another", stripeOptions{Key: "one", Retries: 3}, 1)
		c.fails(a, "StripeIdempotencyError", 400, "")
		if a.Error.RawType != "idempotency_error" {
			t.Errorf("the client got %+v", a)
		}
		c.ran("another", 0)
	})
	t.Run("a declined card stays declined", func(t *testing.T) {
		c := c.in(t)
		for _, replayed := range []bool{false, true} {
			a := c.create("charges", "declined", stripeOptions{Key: "declined", Retries: 3}, 1)
			c.fails(a, "StripeCardError", 402, "card_declined")
			if a.Replayed != replayed {
				t.Errorf("the client got %+v, want a replay: %v", a, replayed)
			}
		}
		c.ran("declined", 1)
	})
	t.Run("a failure of the service is retried", func(t *testing.T) {
		c := c.in(t)
		if a := c.create("charges", "failing", stripeOptions{Key: "failing", Retries: 3}, 2); a.ID != "ch_failing_2" {
			t.Errorf("the client got %+v", a)
		}
		c.ran("failing", 2)
	})
	t.Run("a failure that is kept is not retried for ever", func(t *testing.T) {
		c := c.in(t)
		a := c.create("payouts", "failing kept", stripeOptions{Key: "kept", Retries: 3}, 2)
		c.fails(a, "StripeAPIError", 500, "")
		if !a.Replayed {
			t.Errorf("the client got %+v", a)
		}
		c.ran("failing kept", 1)
	})
	t.Run("an answer that broke off", func(t *testing.T) {
		c := c.in(t)
		c.fails(c.create("charges", "broken", stripeOptions{Key: "broken"}, 1), "StripeAPIError", 502, "")
		if a := c.create("charges", "broken again", stripeOptions{Key: "again", Retries: 3}, 2); a.ID != "ch_broken_again_2" {
			t.Errorf("the client got %+v", a)
		}
	})
	t.Run("an interrupted request that must not be repeated", func(t *testing.T) {
		c := c.in(t)
		c.fails(c.create("refunds", "broken once", stripeOptions{Key: "once", Retries: 3}, 2), "StripeAPIError", 503, "outcome_unknown")
		c.ran("broken once", 1)
	})
	t.Run("an interrupted request without protection is not repeated", func(t *testing.T) {
		c := c.in(t)
		c.fails(c.create("coupons", "broken bare", stripeOptions{Key: "bare", Retries: 3}, 1), "StripeAPIError", 502, "")
		c.ran("broken bare", 1)
	})
	t.Run("an answer that was not kept", func(t *testing.T) {
		c := c.in(t)
		if a := c.create("topups", "long", stripeOptions{Key: "long"}, 1); a.ID != "ch_long_1" {
			t.Errorf("the client got %+v", a)
		}
		c.fails(c.create("topups", "long", stripeOptions{Key: "long", Retries: 3}, 1), "StripeAPIError", 410, "gone")
		c.ran("long", 1)
	})
	t.Run("answers that are lost on their way", func(t *testing.T) {
		c := c.in(t)
		proxy := tcpproxy.Start(t, strings.TrimPrefix(c.gateway.url, "http://"))
		c.client = nodetest.Start(t, "testdata/stripe-node", "http://"+proxy.Addr())
		proxy.Lose(2)
		if a := c.create("charges", "lost", stripeOptions{Key: "lost", Retries: 3}, 3); a.ID != "ch_lost_1" || !a.Replayed {
			t.Errorf("the client got %+v", a)
		}
		proxy.Lose(2)
		c.fails(c.create("refunds", "lost refund", stripeOptions{Key: "refund", Retries: 1}, 2), "StripeConnectionError", 0, "")
		if a := c.create("refunds", "lost refund", stripeOptions{Key: "refund"}, 1); a.ID != "ch_lost_refund_1" || !a.Replayed {
			t.Errorf("the client got %+v", a)
		}
		proxy.Lose(1) // the client makes the key itself, and keeps it for its retries
		if a := c.create("charges", "lost own", stripeOptions{Retries: 2}, 2); a.ID != "ch_lost_own_1" || !a.Replayed {
			t.Errorf("the client got %+v", a)
		}
		for _, each := range []string{"lost", "lost refund", "lost own"} {
			c.ran(each, 1)
		}
		if proxy.Lost() != 5 {
			t.Errorf("%d answers were lost", proxy.Lost())
		}
	})
	t.Run("requests that are wrong themselves", func(t *testing.T) {
		c := c.in(t)
		c.fails(c.create("charges", "x", stripeOptions{Key: "a, b", Retries: 3}, 1), "StripeInvalidRequestError", 400, "malformed")
		c.fails(c.create("transfers", "x", stripeOptions{Key: "x", Retries: 3}, 1), "StripeInvalidRequestError", 400, "body_too_large")
		c.fails(c.call(stripeCall{"customers", "del", []any{"cus_1"}, stripeOptions{Retries: 3}}, 1), "StripeInvalidRequestError", 400, "missing")
		c.ran("x", 0)
	})
	t.Run("a request in flight", func(t *testing.T) {
		c := c.in(t)
		slow := nodetest.Start(t, "testdata/stripe-node", c.gateway.url)
		executed := func() int { return strings.Count(c.gateway.text(), `"result":"executed"`) }
		before := executed()
		held := stripeCall{
			"charges", "create", []any{map[string]any{"amount": 100, "description": "held"}}, stripeOptions{Key: "held", Retries: 8, Timeout: 400},
		}
		// This one hangs up and asks again, and again.
		done := make(chan stripeAnswer, 1)
		go func() {
			var a stripeAnswer
			if err := slow.Call(held, &a); err != nil {
				t.Error(err)
			}
			done <- a
		}()
		<-c.api.held
		c.fails(c.create("charges", "held", stripeOptions{Key: "held"}, 0), "StripeAPIError", 409, "idempotency_key_in_use")
		time.AfterFunc(700*time.Millisecond, c.api.release)
		for _, a := range []stripeAnswer{c.create("charges", "held", stripeOptions{Key: "held", Retries: 8}, 0), <-done} {
			if a.ID != "ch_held_1" || !a.Replayed {
				t.Errorf("the client got %+v", a)
			}
		}
		c.ran("held", 1)
		// Its line may come after the answers of the retries, and is not one of the next test.
		eventually(t, "the request that was given up is in the log", func() bool { return executed() > before })
	})
	t.Run("Redis is away", func(t *testing.T) { // the last one
		c := c.in(t)
		redis.Stop()
		c.fails(c.create("charges", "unkept", stripeOptions{Key: "unkept", Retries: 1}, 2), "StripeAPIError", 503, "unavailable")
		c.ran("unkept", 0)
	})
}

// in is the same for a subtest.
func (c *stripeCase) in(t *testing.T) *stripeCase {
	t.Helper()
	return &stripeCase{t, c.api, c.gateway, c.client}
}

// TestStripeClientThatIsUnknownOrTooBusy needs no server: what it is refused for comes before.
func TestStripeClientThatIsUnknownOrTooBusy(t *testing.T) {
	t.Parallel()
	c := newStripeCase(t, "", "--scope", "header:X-Tenant")
	c.fails(c.create("charges", "x", stripeOptions{Key: rand.Text(), Retries: 3}, 1), "StripeAuthenticationError", 401, "no_scope")
	c.ran("x", 0)

	c = newStripeCase(t, "", "--scope", "unscoped", "--scope-keys", "1")
	c.create("charges", "first", stripeOptions{Key: rand.Text()}, 1)
	c.fails(c.create("charges", "second", stripeOptions{Key: rand.Text()}, 1), "StripeRateLimitError", 429, "rate_limit")
	c.ran("second", 0)
}

// TestStripeClientOfAServiceThatIsAway says what the gateway itself answers when the service cannot
// be reached.
func TestStripeClientOfAServiceThatIsAway(t *testing.T) {
	t.Parallel()
	c := newStripeCase(t, "", "--scope", "unscoped")
	c.api.release()
	c.api.Close()
	c.fails(c.create("charges", "x", stripeOptions{Key: "x", Retries: 1}, 2), "StripeAPIError", 503, "")
}
