package docs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// TestPageConsumer is about consumer.md.
func TestPageConsumer(t *testing.T) {
	t.Parallel()
	svc, ctx := idemtest.NewService(t, nil), t.Context()
	publishDeadLetter := func(context.Context, consumer.Message, error) error { return nil }
	extend := func(context.Context) error { return nil }
	orderID, body, acknowledged := "o-1", []byte("{}"), 0
	acknowledge := func() { acknowledged++ }
	shipped := 0
	ship := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		shipped++
		return redisidem.Finish(redisidem.JSON(200, "shipped")), nil
	}
	shipping, err := consumer.New(svc, "orders/shipping", &consumer.Config{DeadLetter: publishDeadLetter})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := shipping.Handle(ctx, consumer.Message{ID: orderID, Body: body, Extend: extend}, ship); err == nil {
			acknowledge()
		}
	}
	if shipped != 1 || acknowledged != 2 {
		t.Errorf("shipped %d times, acknowledged %d times", shipped, acknowledged)
	}
}

// TestPageWebhook is about webhooks.md.
func TestPageWebhook(t *testing.T) {
	t.Parallel()
	svc, mux, events := idemtest.NewService(t, nil), http.NewServeMux(), 0
	newSecret, oldSecret := "whsec_new", "whsec_old"
	paid := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { events++ })
	if err := func() error {
		hook, err := httpidem.NewWebhook(svc, httpidem.StripeWebhook(newSecret, oldSecret), nil)
		if err != nil {
			return err
		}
		mux.Handle("POST /webhooks/stripe", hook.Handler(paid))
		return nil
	}(); err != nil {
		t.Fatal(err)
	}
	const body = `{"id":"evt_1"}`
	at := strconv.FormatInt(time.Now().Unix(), 10)
	for secret, want := range map[string]int{oldSecret: 200, newSecret: 200, "whsec_another": 403} {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at + "." + body))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks/stripe", strings.NewReader(body))
		r.Header.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(mac.Sum(nil)))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	}
	if events != 1 {
		t.Errorf("the event was handled %d times", events)
	}
}
