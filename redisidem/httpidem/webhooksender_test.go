package httpidem_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/nodetest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestWebhooksSignedByOtherLibraries has each sender's own library sign, or another one that is not
// ours.
func TestWebhooksSignedByOtherLibraries(t *testing.T) {
	t.Parallel()
	node := nodetest.Start(t, "testdata/webhook-senders")
	svc := newStore(t).service(redisidem.Config{})
	for name, c := range map[string]struct {
		hook  httpidem.Webhook
		timed bool
	}{
		"github":   {httpidem.GitHubWebhook(secretText), false},
		"shopify":  {httpidem.ShopifyWebhook(secretText), false},
		"standard": {httpidem.StandardWebhook("bank", secretText), true},
		"stripe":   {httpidem.StripeWebhook(secretText), true},
		"svix":     {httpidem.SvixWebhook("shop", secretText), true},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share the process
			handler := counting(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusAccepted)
				_, _ = w.Write([]byte("handled " + httpidem.Stage(r.Context()).Key().Value))
			})
			h := newWebhook(t, svc, c.hook, nil).Handler(handler)
			send := func(secret string, after time.Duration, body string) *httptest.ResponseRecorder {
				const signed = `{"id":"evt_1","type":"paid","note":"Übung"}`
				var fields map[string]string
				if err := node.Call(map[string]any{
					"sender": name, "secret": secret, "id": "evt_1", "at": time.Now().Add(after).Unix(), "body": signed,
				}, &fields); err != nil {
					t.Fatal(err)
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+name, strings.NewReader(signed+body))
				r.Header.Set("Content-Type", "application/json")
				for field, value := range fields {
					r.Header.Set(field, value)
				}
				return call(h, r)
			}
			if w := send(otherSecret, 0, ""); w.Code != http.StatusForbidden {
				t.Errorf("another secret: %d %s", w.Code, w.Body)
			}
			if w := send(secretText, 0, " "); w.Code != http.StatusForbidden {
				t.Errorf("a changed body: %d %s", w.Code, w.Body)
			}
			if w := send(secretText, -time.Hour, ""); c.timed && w.Code != http.StatusForbidden {
				t.Errorf("an old time: %d %s", w.Code, w.Body)
			}
			if c.timed {
				handler.ran(t, 0)
			}
			for i := range 2 {
				w := send(secretText, 0, "")
				if replayed := w.Header().Get("Idempotency-Replayed") != ""; w.Code != http.StatusAccepted ||
					w.Body.String() != "handled evt_1" || c.timed && replayed != (i > 0) {
					t.Errorf("delivery %d: %d %q, replayed: %t", i, w.Code, w.Body, replayed)
				}
			}
			handler.ran(t, 1)
		})
	}
}
