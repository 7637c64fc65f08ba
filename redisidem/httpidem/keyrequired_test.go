package httpidem_test

import (
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestOptionalKeysPassAndGeneratedOnesAreReturned(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		if httpidem.Stage(r.Context()) == nil {
			w.WriteHeader(http.StatusAccepted)
		}
	})
	bare := func() *http.Request {
		r := newRequest(t.Context(), "", "b")
		r.Header.Del("Idempotency-Key")
		return r
	}
	optional := s.middleware(&httpidem.Config{Key: httpidem.KeyConfig{Optional: true}})
	if w := call(optional.Handler(h), bare()); w.Code != http.StatusAccepted || s.calls.Load() != 0 || optional.Count(httpidem.ResultBypassed) != 1 {
		t.Errorf("%d", w.Code)
	}
	generating := s.middleware(&httpidem.Config{Key: httpidem.KeyConfig{Generate: idemclient.NewKey}}).Handler(h)
	w := call(generating, bare())
	made := w.Header().Get("Idempotency-Key")
	if _, err := idemheader.Parse([]string{made}, true); err != nil || w.Code != http.StatusOK {
		t.Errorf("%d, key %q", w.Code, made)
	}
	if w := call(generating, newRequest(t.Context(), made, "b")); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("the key that was made does not work: %d %s", w.Code, w.Body)
	}
}
