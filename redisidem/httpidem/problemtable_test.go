package httpidem_test

import "testing"

// TestProblemsNameTheirResult is about the field by which others recognise a problem, which an
// answer of the handler's never has.
func TestProblemsNameTheirResult(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(created("order"))
	first := call(h, newRequest(t.Context(), "k", "1"))
	replayed := call(h, newRequest(t.Context(), "k", "1"))
	refused := call(h, newRequest(t.Context(), "k", "2"))
	if first.Header().Get("Idempotency-Problem")+replayed.Header().Get("Idempotency-Problem") != "" ||
		refused.Header().Get("Idempotency-Problem") != "mismatch" {
		t.Errorf("%v\n%v\n%v", first.Header(), replayed.Header(), refused.Header())
	}
}
