package httpidem_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func statusPolicy(t *testing.T, words ...string) httpidem.StatusPolicy {
	t.Helper()
	p, err := httpidem.ParseStatusPolicy(words...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAnswersThatAreNotFinalAreNeverKept is about answers that ask for another try, whatever the
// policy keeps.
func TestAnswersThatAreNotFinalAreNeverKept(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]httpidem.StatusPolicy{
		"default": nil, "all": httpidem.KeepAll, "list": statusPolicy(t, "2xx", "3xx", "4xx", "5xx"),
		"function": func(int) httpidem.Disposition { return httpidem.DispositionKeep },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: status}})
			for i, c := range []struct {
				status int
				field  string
				kept   bool
			}{
				{200, "Retry-After", true}, // what comes again is not this request
				{202, "Retry-After", true},
				{303, "Retry-After", true},
				{404, "", true},
				{409, "", true},
				{424, "", true},
				{404, "Retry-After", false},
				{409, "Retry-After", false},
				{409, "retry-after", false},
				{423, "", false},
				{423, "Retry-After", false},
				{424, "Retry-After", false},
				{425, "", false},
				{429, "Retry-After", false},
				{500, "Retry-After", false},
				{503, "Retry-After", false},
				{400, "Stripe-Should-Retry: true", false},
				{409, "Stripe-Should-Retry: true", false},
				{402, "Stripe-Should-Retry: false", true},
				{200, "Stripe-Should-Retry: true", true},
			} {
				runs := 0
				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					runs++
					if name, value, valued := strings.Cut(c.field, ": "); valued {
						w.Header().Set(name, value)
					} else if name != "" {
						w.Header()[name] = []string{"0"}
					}
					w.WriteHeader(c.status)
				}))
				for n := range 3 {
					w := call(h, newRequest(t.Context(), strconv.Itoa(i), ""))
					if replayed := w.Header().Get("Idempotency-Replayed") == "true"; w.Code != c.status || replayed != (c.kept && n > 0) {
						t.Errorf("%d with %q, request %d: %d, replayed %v", c.status, c.field, n, w.Code, replayed)
					}
				}
				if want := map[bool]int{true: 1, false: 3}[c.kept]; runs != want {
					t.Errorf("%d with %q: the handler ran %d times, want %d", c.status, c.field, runs, want)
				}
			}
		})
	}
}

// TestConflictOfALaterAttemptIsNotFinal is about a handler that is at work on an earlier attempt,
// and says so to a later one.
func TestConflictOfALaterAttemptIsNotFinal(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]httpidem.StatusPolicy{"default": nil, "all": httpidem.KeepAll, "list": statusPolicy(t, "2xx", "409")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t).middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Status: status}})
			answers := []int{504, 409, 409, 201}
			runs := 0
			h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if runs == 0 {
					httpidem.OutcomeUnknown(r.Context())
				}
				w.WriteHeader(answers[runs])
				runs++
			}))
			for i, want := range append(slices.Clone(answers), 201) {
				w := call(h, newRequest(t.Context(), "k", ""))
				if replayed := w.Header().Get("Idempotency-Replayed") == "true"; w.Code != want || replayed != (i == 4) {
					t.Errorf("request %d: %d, replayed %v", i, w.Code, replayed)
				}
			}
		})
	}
}

func TestStatusPoliciesOfWords(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct{ kept, released, unclear []int }{
		"final":       {[]int{200, 299, 304, 400, 404, 409, 422}, []int{401, 403, 408, 423, 425, 429, 500, 501, 599}, []int{502, 503, 504}},
		"all":         {[]int{200, 404, 401, 429, 500, 502, 503, 504, 599}, nil, nil},
		"2xx 404 422": {[]int{200, 201, 299, 404, 422}, []int{302, 400, 401, 409, 423, 500}, []int{502, 503, 504}},
		"2XX 503":     {[]int{200, 503}, []int{404, 500}, []int{502, 504}},
		"201":         {[]int{201}, []int{200, 202, 404, 500}, nil},
		"2xx 2xx 201": {[]int{200, 201}, []int{300}, nil},
		"2xx 4xx":     {[]int{400, 401, 403, 408, 429, 499}, []int{500, 302}, nil},
		"2xx 5xx":     {[]int{500, 502, 503, 504, 599}, []int{404}, nil},
	} {
		policy := statusPolicy(t, strings.Fields(text)...)
		for want, statuses := range map[httpidem.Disposition][]int{httpidem.DispositionKeep: c.kept, httpidem.DispositionRelease: c.released, httpidem.DispositionUnknown: c.unclear} {
			for _, status := range statuses {
				if got := policy(status); got != want {
					t.Errorf("%s: %d is %v, want %v", text, status, got, want)
				}
			}
		}
	}
	for text, words := range map[string]string{
		"":              "no status",
		"some":          `"some", which is not a status or a class of statuses`,
		"20x":           `"20x"`,
		"2xx 600":       `"600"`,
		"2xx 6xx":       `"6xx"`,
		"2xx 99":        `"99"`,
		"2xx -200":      `"-200"`,
		"2xx +200":      `"+200"`,
		"2xx 2000":      `"2000"`,
		"2xx 1xx":       "informational",
		"2xx 101":       "informational",
		"2xx 423":       "423 and 425 are never",
		"2xx 425":       "423 and 425 are never",
		"404 422":       "no 2xx",
		"final 200":     "final stands alone",
		"200 all":       "all stands alone",
		"2xx,404":       `"2xx,404"`,
		"2xx Keep":      `"Keep"`,
		"2xx \u0662xx":  "which is not a status",
		"2xx 404 4xx x": `"x"`,
	} {
		p, err := httpidem.ParseStatusPolicy(strings.Fields(text)...)
		if !errors.Is(err, redisidem.ErrInvalid) || p != nil || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v, want an error with %q", text, err, words)
		}
	}
}
