package idemclient_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/idemclient"
)

func TestDraft_2_5_1_RetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)
		w := &wire{script: []any{reply(409, "Retry-After", "7"), reply(503, "Retry-After", date), reply(503, "Retry-After", "nonsense"), 200}}
		if _, err := newTransport(t, w, nil).RoundTrip(order(t.Context())); err != nil {
			t.Fatal(err)
		}
		if first, second := w.at[1].Sub(w.at[0]), w.at[2].Sub(w.at[0]); first != 7*time.Second || second != 30*time.Second {
			t.Errorf("attempts after %v and %v", first, second)
		}
		if third := w.at[3].Sub(w.at[2]); third > 400*time.Millisecond {
			t.Errorf("the third after %v", third)
		}
	})
	w, resp, err := play(t, nil, reply(503, "Retry-After", "61"), 200)
	if len(w.keys) != 1 || resp.StatusCode != http.StatusServiceUnavailable || err != nil {
		t.Errorf("a long Retry-After: %d attempts, %v, %v", len(w.keys), resp, err)
	}
}

// TestClientDoesNotTakeALargeRetryAfterForNone has servers ask for more patience than there are
// bits.
func TestClientDoesNotTakeALargeRetryAfterForNone(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"99999999999999999999", "4294967296", "2147483648"} {
		sent := 0
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			sent++
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		transport, err := idemclient.NewTransport(nil, &idemclient.TransportConfig{MinBackoff: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if sent != 1 || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: sent %d times", after, sent)
		}
	}
}
