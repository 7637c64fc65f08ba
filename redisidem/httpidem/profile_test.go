package httpidem_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestProblemsOfTheStripeProfile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		problem    httpidem.Problem
		kind, code string
		retry      string
	}{
		{httpidem.Problem{Result: httpidem.ResultMismatch, Status: 400}, "idempotency_error", "", "false"},
		{httpidem.Problem{Result: httpidem.ResultInFlight, Status: 409, RetryAfter: time.Second}, "invalid_request_error", "idempotency_key_in_use", "true"},
		{httpidem.Problem{Result: httpidem.ResultSuperseded, Status: 409, RetryAfter: time.Second}, "invalid_request_error", "idempotency_key_in_use", "true"},
		{httpidem.Problem{Result: httpidem.ResultKeyOutOfWindow, Status: 400}, "invalid_request_error", "key_out_of_window", "false"},
		{httpidem.Problem{Result: httpidem.ResultNotAllowed, Status: 403}, "invalid_request_error", "not_allowed", "false"},
		{httpidem.Problem{Result: httpidem.ResultOverQuota, Status: 429, RetryAfter: time.Second}, "invalid_request_error", "rate_limit", "true"},
		{httpidem.Problem{Result: httpidem.ResultGone, Status: 410, OriginalStatus: 201}, "api_error", "gone", "false"},
		{httpidem.Problem{Result: httpidem.ResultUnfinished, Status: 503, RetryAfter: time.Second}, "api_error", "unfinished", "true"},
		{httpidem.Problem{Result: httpidem.ResultTimedOut, Status: 504, RetryAfter: time.Second}, "api_error", "timed_out", "true"},
		{httpidem.Problem{Result: httpidem.ResultFailed, Status: 500}, "api_error", "failed", "false"},
		{httpidem.Problem{Status: 502}, "api_error", "", "false"},
	} {
		w := httptest.NewRecorder()
		httpidem.ProfileStripe.WriteProblem(w, nil, &c.problem)
		var body struct {
			Error struct{ Type, Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != c.problem.Status || body.Error.Type != c.kind || body.Error.Code != c.code || body.Error.Message == "" ||
			w.Header().Get(httpidem.ShouldRetryHeader) != c.retry || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %s", c.problem.Result, w.Code, w.Header(), w.Body)
		}
	}
}

func TestStripeProfileOfAMiddleware(t *testing.T) {
	t.Parallel()
	seen := &results{}
	s := newStore(t)
	h := s.middleware(&httpidem.Config{Profile: httpidem.ProfileStripe, Observer: seen.observe}).Handler(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			// What an upstream says about its own keys is not what the middleware says.
			w.Header().Set(httpidem.IdempotentReplayedHeader, "true")
			w.Header().Set("Request-Id", "req_1")
			w.WriteHeader(http.StatusCreated)
		}))
	first := call(h, newRequest(t.Context(), "k", "one"))
	if first.Code != http.StatusCreated || first.Header()[httpidem.IdempotentReplayedHeader] != nil {
		t.Errorf("%d %v", first.Code, first.Header())
	}
	again := call(h, newRequest(t.Context(), "k", "one")).Header()
	for name, want := range map[string]string{
		httpidem.IdempotentReplayedHeader: "true", idemheader.Replayed: "true", httpidem.ShouldRetryHeader: "false", "Request-Id": "req_1",
	} {
		if again.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, again.Get(name), want)
		}
	}
	for _, name := range []string{"Idempotency-Key", idemheader.Replayed, httpidem.IdempotentReplayedHeader} {
		if !httpidem.InList(again["Access-Control-Expose-Headers"], name) {
			t.Errorf("%s is not exposed: %v", name, again)
		}
	}
	if other := call(h, newRequest(t.Context(), "k", "two")); other.Code != http.StatusBadRequest || seen.last(t).Status != http.StatusBadRequest {
		t.Errorf("%d %s, and the observer received %+v", other.Code, other.Body, seen.last(t))
	}
}

func TestProfilesHaveNames(t *testing.T) {
	t.Parallel()
	if httpidem.ProfileDraft.String() != "draft" || httpidem.ProfileStripe.String() != "stripe" || httpidem.Profile(9).String() != "invalid" {
		t.Error("profiles have other names")
	}
}
