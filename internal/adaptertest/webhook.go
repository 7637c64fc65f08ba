package adaptertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// webhooks checks that a middleware of [httpidem.NewWebhook] goes into an adapter like any other,
// and that it verifies the bytes that the sender has signed.
func webhooks(t *testing.T, f Framework) {
	const secret = "a secret that both sides have"
	s := NewShop(t, nil)
	hook, err := httpidem.NewWebhook(s.Service, httpidem.GitHubWebhook(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	url := f.Serve(t, App{Adapter: hook, Routes: map[string]func(Call) error{"/orders": func(c Call) error {
		s.Runs.Add(1)
		return c.Write(200, "got "+c.Body())
	}}}) + "/orders"
	const body = "{ \"number\": 1 }\n"
	deliver := func(event, signed string) Answer {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(signed))
		return Post(t, url, "", body, WithoutKey, func(r *http.Request) {
			r.Header.Set("X-Github-Delivery", event)
			r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		})
	}
	WantStatus(t, deliver("1", "another body"), 403)
	s.WantRuns(0)
	first := deliver("1", body)
	if first.StatusCode != http.StatusOK || first.Body != "got "+body {
		t.Errorf("got %d %q", first.StatusCode, first.Body)
	}
	WantReplay(t, deliver("1", body), first)
	WantStatus(t, deliver("2", body), 200)
	s.WantRuns(2)
}
