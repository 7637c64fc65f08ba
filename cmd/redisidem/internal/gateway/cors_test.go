package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestCORSThatIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []CORS{
		{Origins: []string{"shop.example"}},
		{Origins: []string{"https://shop.example/"}},
		{Origins: []string{"ftp://shop.example"}},
		{Origins: []string{""}},
		{Origins: []string{"*"}, Credentials: true},
		{Credentials: true},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if err := (&CORS{Origins: []string{"*", "https://shop.example:8443"}}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestCORSIsTheGateways also lets the service speak of CORS: the gateway's word counts.
func TestCORSIsTheGateways(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	b.config.CORS = CORS{Origins: []string{"https://shop.example"}}
	b.reload()
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://evil.example")
		w.Header().Set("Access-Control-Expose-Headers", "X-Own")
	})
	for _, origin := range []string{"https://shop.example", "https://evil.example"} {
		for range 2 { // an execution, and a replay
			h := b.send("POST", "/", "", "Idempotency-Key", "k", "Origin", origin).header
			want := ""
			if origin == "https://shop.example" {
				want = origin
			}
			if got := h.Values("Access-Control-Allow-Origin"); strings.Join(got, " ") != want {
				t.Errorf("%s: allowed %q, want %q", origin, got, want)
			}
			if want != "" && !strings.Contains(strings.Join(h.Values("Access-Control-Expose-Headers"), ","), "Idempotency-Replayed") {
				t.Errorf("exposed %q", h.Values("Access-Control-Expose-Headers"))
			}
		}
	}
}
