package httpidem_test

import (
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestDraft_2_4_VersionIsStoredAndKeysOutliveAChange(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	h := counting(created("done"))
	old := httpidem.Fingerprint{Version: 1}
	fresh := httpidem.Fingerprint{Version: 2, Func: httpidem.JSONFields("amount")}
	before := newMiddleware(t, svc, &httpidem.Config{Fingerprint: old}).Handler(h)
	after := newMiddleware(t, svc, &httpidem.Config{Fingerprint: fresh, OtherFingerprints: []httpidem.Fingerprint{old}}).Handler(h)
	call(before, newRequest(t.Context(), "k", `{"amount":1}`))
	if key, err := svc.Scope("alice").Retrieve(t.Context(), "k"); err != nil || string(key.Params) != "\x01" || key.Path != "/orders" || key.Method != http.MethodPost {
		t.Errorf("stored %+v, %v", key, err)
	}
	if w := call(after, newRequest(t.Context(), "k", `{"amount":1}`)); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// The old way of comparing is in force for the old key.
	if w := call(after, newRequest(t.Context(), "k", `{ "amount":1}`)); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	call(after, newRequest(t.Context(), "new", `{"amount":1}`))
	if w := call(after, newRequest(t.Context(), "new", `{ "amount":1, "x": 2}`)); w.Header().Get(idemheader.Replayed) != "true" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// A version that is not known is refused: nothing is disclosed that could not be compared.
	if w := call(before, newRequest(t.Context(), "new", `{"amount":1}`)); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 2)
}
