package httpidem_test

import (
	"net/http"
	"strings"
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

// TestFingerprintsOfOneVersionHaveNames changes a fingerprint twice, without another version.
func TestFingerprintsOfOneVersionHaveNames(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	h := counting(created("done"))
	whole := httpidem.Fingerprint{}
	canonical := httpidem.Fingerprint{Name: "json", Func: httpidem.CanonicalJSON}
	amount := httpidem.Fingerprint{Name: "amount", Func: httpidem.JSONFields("amount")}
	with := func(f httpidem.Fingerprint, others ...httpidem.Fingerprint) http.Handler {
		return newMiddleware(t, svc, &httpidem.Config{Fingerprint: f, OtherFingerprints: others}).Handler(h)
	}
	const body = `{"amount":1,"x":1}`
	call(with(whole), newRequest(t.Context(), "one", body))
	call(with(canonical, whole), newRequest(t.Context(), "two", body))
	call(with(amount, canonical, whole), newRequest(t.Context(), "three", body))
	h.ran(t, 3)
	last := with(amount, canonical, whole)
	for key, bodies := range map[string]map[string]bool{
		"one":   {body: true, `{"x":1,"amount":1}`: false, `{"amount":1}`: false},
		"two":   {body: true, `{"x":1,"amount":1}`: true, `{"amount":1}`: false},
		"three": {body: true, `{"x":1,"amount":1}`: true, `{"amount":1}`: true, `{"amount":2}`: false},
	} {
		for text, same := range bodies {
			w := call(last, newRequest(t.Context(), key, text))
			if same != (w.Header().Get(idemheader.Replayed) == "true") || !same && w.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s: %s is answered with %d", key, text, w.Code)
			}
		}
	}
	h.ran(t, 3)
	for key, handler := range map[string]http.Handler{"two": with(whole), "three": with(canonical, whole)} {
		if w := call(handler, newRequest(t.Context(), key, body)); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: without its fingerprint the status is %d", key, w.Code)
		}
	}
	h.ran(t, 3)
}

// TestRecordThatCannotBeReadIsNoOtherRequest has a record whose version cannot be read, so that it
// is not known whether a retry is the same request.
func TestRecordThatCannotBeReadIsNoOtherRequest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created(strings.Repeat("x", 2000)))
	old, fresh := httpidem.Fingerprint{Version: 1}, httpidem.Fingerprint{Version: 2, Func: httpidem.JSONFields("amount")}
	before := newMiddleware(t, s.service(redisidem.Config{}), &httpidem.Config{Fingerprint: old}).Handler(h)
	short := s.service(redisidem.Config{MaxValueBytes: 1000})
	after := newMiddleware(t, short, &httpidem.Config{Fingerprint: fresh, OtherFingerprints: []httpidem.Fingerprint{old}}).Handler(h)
	call(before, newRequest(t.Context(), "k", `{"amount":1}`))
	if w := call(after, newRequest(t.Context(), "k", `{"amount":1}`)); w.Code == http.StatusUnprocessableEntity || w.Code < 500 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.ran(t, 1)
}
