package httpidem_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// shared is a scheme of a test's own: the signature is a word in a header field.
func shared(sender string) httpidem.Webhook {
	return httpidem.Webhook{Sender: sender, Event: httpidem.KeySource{Header: "Event"}, Verify: func(r *http.Request, body []byte) error {
		if r.Header.Get("Signed") != "yes "+string(body) {
			return errors.New("not signed")
		}
		return nil
	}}
}

// delivery makes a delivery for [shared].
func delivery(t testing.TB, event, body string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hooks", strings.NewReader(body))
	r.Header.Set("Event", event)
	r.Header.Set("Signed", "yes "+body)
	return r
}

func newWebhook(t testing.TB, svc *redisidem.Service, hook httpidem.Webhook, cfg *httpidem.Config) *httpidem.Middleware {
	t.Helper()
	m, err := httpidem.NewWebhook(svc, hook, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWebhookIsHandledOnceForEachEvent(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	handler := counting(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "got "+string(body))
	})
	h := newWebhook(t, svc, shared("a"), nil).Handler(handler)
	for _, body := range []string{"first", "first", "a later state"} { // the event decides, not the body
		w := call(h, delivery(t, "evt_1", body))
		if w.Code != http.StatusAccepted || w.Body.String() != "got first" {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	}
	handler.ran(t, 1)
	call(h, delivery(t, "evt_2", "first"))
	handler.ran(t, 2)
	call(newWebhook(t, svc, shared("b"), nil).Handler(handler), delivery(t, "evt_1", "first"))
	handler.ran(t, 3)
	if key, err := svc.Scope("webhook/a").Retrieve(t.Context(), "evt_1"); err != nil || !key.Finished() {
		t.Errorf("%v, %v", key, err)
	}
}

func TestWebhookIsVerifiedBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var seen results
	handler := counting(created("done"))
	cfg := &httpidem.Config{MaxBodyBytes: 20, Observer: seen.observe, Authorize: func(*http.Request) error {
		t.Error("the rights were checked first")
		return nil
	}}
	h := newWebhook(t, s.service(redisidem.Config{}), shared("a"), cfg).Handler(handler)
	before := s.calls.Load()
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		result httpidem.Result
	}{
		"no signature":            {func(r *http.Request) { r.Header.Del("Signed") }, 403, httpidem.ResultBadSignature},
		"no signature and no key": {func(r *http.Request) { r.Header = http.Header{} }, 403, httpidem.ResultBadSignature},
		"another body":            {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("other")) }, 403, httpidem.ResultBadSignature},
		"a large body": {func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(strings.Repeat("x", 21)))
		}, 413, httpidem.ResultBodyTooLarge},
		"another method": {func(r *http.Request) { r.Method = http.MethodGet }, 405, httpidem.ResultBypassed},
		"no event":       {func(r *http.Request) { r.Header.Del("Event") }, 400, httpidem.ResultMissing},
	} {
		r := delivery(t, "evt_1", "body")
		c.change(r)
		if w := call(h, r); w.Code != c.status || seen.last(t).Result != c.result {
			t.Errorf("%s: %d, %v: %s", name, w.Code, seen.last(t).Result, w.Body)
		}
	}
	handler.ran(t, 0)
	if s.calls.Load() != before {
		t.Error("the store was asked")
	}
}

func TestWebhookIsDeliveredAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	status := http.StatusNotFound
	handler := counting(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	h := newWebhook(t, newStore(t).service(redisidem.Config{}), shared("a"), nil).Handler(handler)
	for _, next := range []int{http.StatusInternalServerError, http.StatusNoContent, http.StatusInternalServerError} {
		if w := call(h, delivery(t, "evt_1", "body")); w.Code != status {
			t.Errorf("%d, want %d", w.Code, status)
		}
		status = next
	}
	if w := call(h, delivery(t, "evt_1", "body")); w.Code != http.StatusNoContent {
		t.Errorf("%d", w.Code)
	}
	handler.ran(t, 3)
}

// TestDuplicateOfAWebhookWithoutAResponseIsAccepted is about senders that stop all deliveries after
// a 410.
func TestDuplicateOfAWebhookWithoutAResponseIsAccepted(t *testing.T) {
	t.Parallel()
	var seen results
	cfg := &httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}, Observer: seen.observe}
	h := newWebhook(t, newStore(t).service(redisidem.Config{}), shared("a"), cfg).Handler(created("done"))
	call(h, delivery(t, "evt_1", "body"))
	w := call(h, delivery(t, "evt_1", "body"))
	if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Idempotency-Problem") != "" ||
		w.Header().Get("Idempotency-Replayed") != "true" || seen.last(t).Result != httpidem.ResultGone {
		t.Errorf("%d %v %q, %v", w.Code, w.Header(), w.Body, seen.last(t))
	}
}

func TestFlowOfAWebhook(t *testing.T) {
	t.Parallel()
	runs := 0
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "paid", Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			runs++
			return redisidem.Finish(redisidem.JSON(200, string(st.Key().Params))), nil
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := newWebhook(t, newStore(t).service(redisidem.Config{}), shared("a"), nil).Flow(flow, func(_ *http.Request, body []byte) (any, error) { return body, nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if w := call(h, delivery(t, "evt_1", "paid")); w.Code != http.StatusOK || w.Body.String() != `"paid"` {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	unsigned := delivery(t, "evt_2", "paid")
	unsigned.Header.Del("Signed")
	if w := call(h, unsigned); w.Code != http.StatusForbidden || runs != 1 {
		t.Errorf("%d after %d runs", w.Code, runs)
	}
}

func TestWebhookThatIsWrong(t *testing.T) {
	t.Parallel()
	svc := newStore(t).service(redisidem.Config{})
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the documentation
	noSender, both := httpidem.StripeWebhook(secret), httpidem.StripeWebhook(secret)
	noSender.Sender = ""
	both.Verify = shared("a").Verify
	noEvent := httpidem.GitHubWebhook(secret)
	noEvent.Event = httpidem.KeySource{}
	long := httpidem.GitHubWebhook(secret)
	long.Sender = strings.Repeat("s", 250)
	for name, c := range map[string]struct {
		hook  httpidem.Webhook
		cfg   httpidem.Config
		field string
	}{
		"no sender":       {noSender, httpidem.Config{}, "httpidem.Webhook.Sender"},
		"a long sender":   {long, httpidem.Config{}, "httpidem.Webhook.Sender"},
		"no event":        {noEvent, httpidem.Config{}, "httpidem.KeySource"},
		"two schemes":     {both, httpidem.Config{}, "httpidem.Webhook.Verify"},
		"no scheme":       {httpidem.Webhook{Sender: "a", Event: httpidem.KeySource{Body: "/id"}}, httpidem.Config{}, "httpidem.Webhook.Scheme"},
		"no secret":       {httpidem.StripeWebhook(), httpidem.Config{}, "httpidem.Webhook.Secrets"},
		"an empty secret": {httpidem.StripeWebhook(secret, ""), httpidem.Config{}, "httpidem.Webhook.Secrets[1]"},
		"not base64":      {httpidem.StandardWebhook("a", "!"), httpidem.Config{}, "httpidem.Webhook.Secrets[0]"},
		"empty base64":    {httpidem.SvixWebhook("a", "whsec_"), httpidem.Config{}, "httpidem.Webhook.Secrets[0]"},
		"other sources": {
			httpidem.StripeWebhook(secret), httpidem.Config{Key: httpidem.KeyConfig{Sources: []httpidem.KeySource{{Header: "Id"}}}}, "httpidem.Config.Key",
		},
		"an optional key": {httpidem.StripeWebhook(secret), httpidem.Config{Key: httpidem.KeyConfig{Optional: true}}, "httpidem.Config.Key"},
		"a small wait":    {httpidem.StripeWebhook(secret), httpidem.Config{MaxRetryAfter: time.Millisecond}, "httpidem.Config.MaxRetryAfter"},
	} {
		_, err := httpidem.NewWebhook(svc, c.hook, &c.cfg)
		if refused, ok := errors.AsType[*redisidem.InvalidError](err); !ok || refused.Field != c.field {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpidem.NewWebhook(nil, shared("a"), nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Error(err)
	}
}
