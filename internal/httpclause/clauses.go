package httpclause

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// example is the key of the draft's examples.
const example = `"8e03978e-40d5-43dd-bc93-6894a57f9324"`

var clauses = []clause{
	{name: "1/SafeAndIdempotentMethodsBypass", test: func(s *trial) {
		methods := []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}
		for _, method := range methods {
			for range 2 {
				if a := s.is(s.send(request{method: method, keys: key(example)}), 201); a.replayed() {
					s.Errorf("%s is covered", method)
				}
			}
			s.is(s.send(request{method: method}), 201)
		}
		s.ran(int64(3 * len(methods)))
	}},
	{name: "1/PostAndPatchAreCovered", test: func(s *trial) {
		for i, method := range []string{"POST", "PATCH"} {
			k := key(`"` + method + `"`)
			first := s.is(s.send(request{method: method, keys: k}), 201)
			s.isReplayOf(s.send(request{method: method, keys: k}), first)
			s.ran(int64(i + 1))
		}
	}},
	{name: "1/TheSetOfMethodsIsConfigurable", options: Options{Methods: []string{"PUT"}}, test: func(s *trial) {
		first := s.send(request{method: "PUT", keys: key(example)})
		s.isReplayOf(s.send(request{method: "PUT", keys: key(example)}), first)
		s.is(s.send(request{keys: key(example)}), 201)
		s.is(s.send(request{keys: key(example)}), 201)
		s.ran(3)
	}},
	{name: "2.1/AQuotedStringIsTheKey", options: Options{Strict: true}, test: func(s *trial) {
		first := s.is(s.send(request{keys: key(example)}), 201)
		if got := first.header.Get("Idempotency-Key"); got != example {
			s.Errorf("the echo is %q", got)
		}
		s.isReplayOf(s.send(request{keys: key(example)}), first)
		// The two escapes are removed, and added again in the echo.
		escaped := s.is(s.send(request{keys: key(`"a\"b\\c"`)}), 201)
		if got := escaped.header.Get("Idempotency-Key"); got != `"a\"b\\c"` {
			s.Errorf("the echo is %q", got)
		}
	}},
	{name: "2.1/OnlyPrintableCharactersAndTwoEscapes", test: func(s *trial) {
		for _, bad := range []string{"\"a\tb\"", "\"caf\u00e9\"", "\"\U0001f511\"", "\"\xff\"", `"a\nb"`, `"a\tb"`, `"a\u0041"`, `"a`, `"`, `"a"b`, `"a" b`} {
			s.isProblem(s.send(request{keys: key(bad)}), 400, "Idempotency-Key is malformed")
		}
		s.ran(0)
	}},
	{name: "2.1/ParametersAreIgnored", test: func(s *trial) {
		first := s.is(s.send(request{keys: key(`"abc";a=1;b="x"`)}), 201)
		if got := first.header.Get("Idempotency-Key"); got != `"abc"` {
			s.Errorf("the echo is %q", got)
		}
		s.isReplayOf(s.send(request{keys: key(`"abc"`)}), first)
	}},
	{name: "2.1/AnItemIsNoList", test: func(s *trial) {
		for _, bad := range [][]string{{`"a"`, `"b"`}, {`"a"`, `"a"`}, {"a", "b"}, {`"a", "b"`}, {"a, b"}, {"a,b"}, {`("a" "b")`}} {
			s.isProblem(s.send(request{keys: bad}), 400, "Idempotency-Key is malformed")
		}
		s.ran(0)
		s.is(s.send(request{keys: key(`"a, b"`)}), 201)
	}},
	{name: "2.1/StrictRefusesOtherItems", options: Options{Strict: true}, test: func(s *trial) {
		for _, bad := range []string{"abc", "12", "1.5", "?1", ":YWJj:", "@1659578233", `%"abc"`, strings.Trim(example, `"`)} {
			s.isProblem(s.send(request{keys: key(bad)}), 400, "Idempotency-Key is malformed")
		}
		s.ran(0)
	}},
	{name: "2.1/LenientTakesTheSameKeyWithoutQuotes", test: func(s *trial) {
		for i, text := range []string{"abc", strings.Trim(example, `"`), "12", "?1", ":YWJj:", "a:b{c}*"} {
			first := s.is(s.send(request{keys: key(text)}), 201)
			if got := first.header.Get("Idempotency-Key"); got != text {
				s.Errorf("the echo of %s is %q", text, got)
			}
			again := s.is(s.send(request{keys: key(`"` + text + `"`)}), 201)
			if again.body != first.body || !again.replayed() {
				s.Errorf("%s and the same in quotes are two keys", text)
			}
			s.ran(int64(i + 1))
		}
	}},
	{name: "2.1/EmptyIsMalformedAndNotMissing", options: Options{Optional: true}, test: func(s *trial) {
		for _, empty := range []string{"", `""`, "  ", `"  "`, "\t"} {
			s.isProblem(s.send(request{keys: key(empty)}), 400, "Idempotency-Key is malformed")
		}
		s.ran(0)
		s.is(s.send(request{}), 201)
	}},
	{name: "2.2/AnotherPayloadIsNeverExecuted", test: func(s *trial) {
		first := s.is(s.send(request{keys: key(example), body: `{"amount":1}`}), 201)
		for range 3 {
			a := s.is(s.send(request{keys: key(example), body: `{"amount":2}`}), 422)
			if strings.Contains(a.body, "run") || a.header.Get("Location") != "" {
				s.Errorf("the stored answer is disclosed: %v %s", a.header, a.body)
			}
		}
		s.ran(1)
		s.isReplayOf(s.send(request{keys: key(example), body: `{"amount":1}`}), first)
	}},
	{name: "2.2/AnotherPayloadIsRefusedWhileTheFirstRuns", test: func(s *trial) {
		s.whileOneRuns(request{keys: key(example), body: "1"}, func() {
			s.is(s.send(request{keys: key(example), body: "2"}), 422)
			s.is(s.send(request{keys: key(example), body: "1"}), 409)
		})
		s.ran(1)
	}},
	{name: "2.2/KeysAreUniqueWithinTheScopeOfTheOwnersChoice", test: func(s *trial) {
		alice := s.is(s.send(request{keys: key(example), caller: "alice"}), 201)
		bob := s.is(s.send(request{keys: key(example), caller: "bob"}), 201)
		s.ran(2)
		s.isReplayOf(s.send(request{keys: key(example), caller: "alice"}), alice)
		s.isReplayOf(s.send(request{keys: key(example), caller: "bob"}), bob)
		// Another path is another payload, not another scope.
		s.is(s.send(request{keys: key(example), path: "/refunds"}), 422)
		s.ran(2)
	}},
	{name: "2.3/KeysOutsideTheirTimeWindowAreRefused", options: Options{Window: time.Hour}, test: func(s *trial) {
		at := func(t time.Time) []string {
			id := uuid.Must(uuid.NewV7())
			for i, ms := 5, t.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
				id[i] = byte(ms)
			}
			return key(`"` + id.String() + `"`)
		}
		s.is(s.send(request{keys: at(time.Now())}), 201)
		s.is(s.send(request{keys: at(time.Now().Add(-59 * time.Minute))}), 201)
		for _, wrong := range []time.Duration{-61 * time.Minute, 61 * time.Minute} {
			a := s.isProblem(s.send(request{keys: at(time.Now().Add(wrong))}), 400, "Idempotency-Key is outside its time window")
			if !strings.Contains(a.body, "#key-out-of-window") {
				s.Errorf("the problem has no type of its own: %s", a.body)
			}
		}
		s.ran(2)
		s.isProblem(s.send(request{keys: key(example)}), 400, "Idempotency-Key is not acceptable")
	}},
	{name: "2.3/RetentionIsPublished", options: Options{PublishRetention: true}, test: func(s *trial) {
		a := s.is(s.send(request{keys: key(example)}), 201)
		if n, err := strconv.Atoi(a.header.Get("Idempotency-Retention")); err != nil || n < 1 {
			s.Errorf("Idempotency-Retention is %q", a.header.Get("Idempotency-Retention"))
		}
	}},
	{name: "2.4/TheFingerprintCoversTheWholeRequest", test: func(s *trial) {
		base := request{keys: key(example), path: "/orders?dry_run=1", body: `{"a":1}`, host: "api.example"}
		first := s.is(s.send(base), 201)
		same := base
		same.host = "API.example:80"
		same.kind, same.header = "Application/JSON; charset=utf-8", map[string]string{"Traceparent": "00-1-2-01", "X-Request-Id": "2"}
		s.isReplayOf(s.send(same), first)
		for what, change := range map[string]func(r *request){
			"method":     func(r *request) { r.method = "PATCH" },
			"host":       func(r *request) { r.host = "other.example" },
			"port":       func(r *request) { r.host = "api.example:8080" },
			"path":       func(r *request) { r.path = "/orders/?dry_run=1" },
			"query":      func(r *request) { r.path = "/orders?dry_run=0" },
			"no query":   func(r *request) { r.path = "/orders" },
			"media type": func(r *request) { r.kind = "text/plain" },
			"body":       func(r *request) { r.body = `{"a": 1}` },
			"no body":    func(r *request) { r.body = "" },
		} {
			other := base
			change(&other)
			if a := s.send(other); a.status != 422 {
				s.Errorf("another %s: status %d, want 422", what, a.status)
			}
		}
		s.ran(1)
	}},
	{name: "2.4/SelectedFieldsCanMakeTheFingerprint", options: Options{JSONFields: []string{"amount", "to.iban"}}, test: func(s *trial) {
		first := s.is(s.send(request{keys: key(example), body: `{"amount":1,"to":{"iban":"X","name":"x"},"sent":1}`}), 201)
		s.isReplayOf(s.send(request{keys: key(example), body: `{"sent":2, "to":{"name":"y","iban":"X"}, "amount":1}`}), first)
		for _, other := range []string{`{"amount":2,"to":{"iban":"X"}}`, `{"amount":1,"to":{"iban":"Y"}}`, `{"amount":1}`, `no JSON`} {
			s.is(s.send(request{keys: key(example), body: other}), 422)
		}
		s.ran(1)
	}},
	{name: "2.5.2/TheServerIdentifiesTheKeyAndEnforcesThePolicy", test: func(s *trial) {
		first := s.is(s.send(request{keys: key(example), body: "x"}), 201)
		if !strings.Contains(first.body, `"got":"x"`) {
			s.Errorf("the handler did not get the body: %s", first.body)
		}
		s.isReplayOf(s.send(request{keys: key(example), body: "x"}), first)
		for _, a := range []answer{s.send(request{keys: key(example), body: "y"}), first} {
			if a.header.Get("Idempotency-Key") != example {
				s.Errorf("the key is not echoed with status %d", a.status)
			}
			if got := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(got, "Idempotency-Key") {
				s.Errorf("with status %d scripts may see %q", a.status, got)
			}
		}
	}},
	{name: "2.6/TheFirstRequestRunsOnce", test: func(s *trial) {
		a := s.is(s.send(request{keys: key(example)}), 201)
		if a.header["Idempotency-Replayed"] != nil {
			s.Error("the first answer is marked as a replay")
		}
		s.ran(1)
	}},
	{name: "2.6/ARetryAfterCompletionGetsTheSameAnswer", test: func(s *trial) {
		success := s.is(s.send(request{keys: key(`"success"`)}), 201)
		s.backend.answerWith(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte("{\"title\":\"out of stock \x00\xff\"}"))
		})
		failure := s.is(s.send(request{keys: key(`"failure"`)}), 409)
		s.ran(2)
		for range 3 {
			s.isReplayOf(s.send(request{keys: key(`"success"`)}), success)
			s.isReplayOf(s.send(request{keys: key(`"failure"`)}), failure)
		}
		s.ran(2)
	}},
	{name: "2.6/ARetryWhileTheFirstRunsIsAConflict", test: func(s *trial) {
		const parallel = 100
		release := make(chan struct{})
		running := make(chan struct{}, parallel)
		s.backend.answerWith(func(w http.ResponseWriter, _ *http.Request) {
			running <- struct{}{}
			<-release
			_, _ = w.Write([]byte("done"))
		})
		answers := make(chan answer, parallel)
		for range parallel {
			go func() { answers <- s.send(request{keys: key(example)}) }()
		}
		<-running
		for range parallel - 1 {
			s.isProblem(<-answers, 409, "A request is outstanding for this Idempotency-Key")
		}
		s.ran(1)
		close(release)
		s.is(<-answers, 200)
		s.ran(1)
	}},
	{name: "2.7/AMissingKeyIsABadRequest", test: func(s *trial) {
		s.isProblem(s.send(request{}), 400, "Idempotency-Key is missing")
		s.ran(0)
	}},
	{name: "2.7/ProblemsLinkToThePolicy", options: Options{PolicyURL: "https://api.example/idempotency"}, test: func(s *trial) {
		for _, a := range []answer{
			s.isProblem(s.send(request{}), 400, "Idempotency-Key is missing"),
			s.isProblem(s.send(request{keys: key(`"`)}), 400, "Idempotency-Key is malformed"),
		} {
			if got, want := a.header.Get("Link"), `<https://api.example/idempotency>; rel="describedby"; type="text/html"`; got != want {
				s.Errorf("Link is %q, want %q", got, want)
			}
			var p struct{ Type string }
			if err := json.Unmarshal([]byte(a.body), &p); err != nil || !strings.HasPrefix(p.Type, "https://api.example/idempotency#") {
				s.Errorf("type is %q (%v)", p.Type, err)
			}
		}
	}},
	{name: "2.7/ReuseWithAnotherPayloadIsUnprocessable", test: func(s *trial) {
		s.is(s.send(request{keys: key(example), body: "1"}), 201)
		s.isProblem(s.send(request{keys: key(example), body: "2"}), 422, "Idempotency-Key is already used")
	}},
	{name: "2.7/ARequestInFlightIsAConflict", test: func(s *trial) {
		s.whileOneRuns(request{keys: key(example)}, func() {
			a := s.isProblem(s.send(request{keys: key(example)}), 409, "A request is outstanding for this Idempotency-Key")
			if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
				s.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
		})
		s.ran(1)
	}},
	{name: "2.7/BadRequestsAreNeverStored", test: func(s *trial) {
		for range 3 {
			s.is(s.send(request{}), 400)
			s.is(s.send(request{keys: key(`"a`)}), 400)
		}
		s.is(s.send(request{keys: key(`"a"`), body: "1"}), 201)
		for range 3 {
			s.is(s.send(request{keys: key(`"a"`), body: "2"}), 422)
		}
		// A key that was only refused can still be used, and a stored answer has not changed.
		if a := s.is(s.send(request{keys: key(`"a"`), body: "1"}), 201); !a.replayed() {
			s.Error("not a replay")
		}
		s.ran(1)
	}},
	{name: "2.7/OtherErrorsFollowTheDocumentedDefault", test: func(s *trial) {
		kept := map[int]bool{}
		for _, status := range []int{200, 202, 204, 302, 304, 400, 404, 409, 410, 412, 418, 422, 451} {
			kept[status] = true
		}
		for _, status := range []int{401, 403, 408, 423, 425, 429, 500, 501, 502, 503, 504, 507} {
			kept[status] = false
		}
		for status, keep := range kept {
			s.backend.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			k := key(fmt.Sprintf(`"%d"`, status))
			before := s.backend.runs.Load()
			first, again := s.send(request{keys: k}), s.send(request{keys: k})
			if first.status != status || again.status != status || again.replayed() != keep {
				s.Errorf("%d: answered %d, then %d, a replay: %t", status, first.status, again.status, again.replayed())
			}
			if runs := s.backend.runs.Load() - before; keep && runs != 1 || !keep && runs != 2 {
				s.Errorf("%d: the handler ran %d times", status, runs)
			}
		}
	}},
	{name: "2.7/OtherErrorsCanAllBeStored", options: Options{KeepAll: true}, test: func(s *trial) {
		for _, status := range []int{200, 401, 429, 500, 502, 503} {
			s.backend.answerWith(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte("answer"))
			})
			k := key(fmt.Sprintf(`"%d"`, status))
			first := s.is(s.send(request{keys: k}), status)
			s.isReplayOf(s.send(request{keys: k}), first)
		}
		s.ran(6)
	}},
	{name: "2.7/ProblemsTellTheirLanguage", test: func(s *trial) {
		if a := s.send(request{}); a.header.Get("Content-Language") != "en" {
			s.Errorf("Content-Language is %q", a.header.Get("Content-Language"))
		}
	}},
	{name: "3.1/TheNameOfTheFieldIsIdempotencyKeyInAnyCase", test: func(s *trial) {
		first := s.is(s.send(request{header: map[string]string{"Idempotency-Key": example}}), 201)
		s.isReplayOf(s.sendRaw("idempotency-key"), first)
		s.isReplayOf(s.sendRaw("IDEMPOTENCY-KEY"), first)
	}},
	{name: "5/KeysAreCheckedBeforeTheStoreIsAsked", options: Options{UUIDs: true}, test: func(s *trial) {
		before := s.target.StoreCalls()
		for _, bad := range []string{"", `"a`, "a,b", `"not-a-uuid"`, strings.Repeat("x", 10_000)} {
			s.is(s.send(request{keys: key(bad)}), 400)
		}
		s.is(s.send(request{}), 400)
		if calls := s.target.StoreCalls() - before; calls != 0 {
			s.Errorf("the store was asked %d times", calls)
		}
		s.is(s.send(request{keys: key(example)}), 201)
		if s.target.StoreCalls() == before {
			s.Error("the count of the store's calls does not count")
		}
	}},
	{name: "5/KeysAreLookedUpWithWhatOnlyTheServerKnows", test: func(s *trial) {
		var wait sync.WaitGroup
		for _, caller := range []string{"alice", "bob", "carol"} {
			wait.Go(func() {
				if a := s.is(s.send(request{keys: key(example), caller: caller}), 201); a.replayed() {
					s.Errorf("%s got another's answer", caller)
				}
			})
		}
		wait.Wait()
		s.ran(3)
	}},
	{name: "5/CharactersOfAKeyReachNothingElse", test: func(s *trial) {
		keys := []string{
			`"a"`, `"a:b"`, `"a:"`, `"{a}"`, `"}{"`, `"*"`, `"a*"`, `"?"`, `"[a]"`, `"a b"`, `"a:lock"`, `"alice:a"`, `"../a"`, `"%0a"`,
			`"a\\n"`, `"${jndi}"`, `"'; DROP"`, `"A"`,
		}
		for i, k := range keys {
			if a := s.is(s.send(request{keys: key(k)}), 201); a.replayed() {
				s.Errorf("%s reached another key", k)
			}
			s.ran(int64(i + 1))
		}
		for _, bad := range []string{"\"\U0001f600\"", "\"a\tb\""} {
			s.is(s.send(request{keys: key(bad)}), 400)
		}
	}},
	{name: "5/KeysThatCanBeGuessedCanBeRefused", options: Options{UUIDs: true}, test: func(s *trial) {
		for _, guess := range []string{`"1"`, `"order-1"`, `"00000000-0000-0000-0000-000000000000"`} {
			s.isProblem(s.send(request{keys: key(guess)}), 400, "Idempotency-Key is not acceptable")
		}
		s.is(s.send(request{keys: key(example)}), 201)
		s.ran(1)
	}},
}

// whileOneRuns calls f while the backend handles a request, and then lets the request end.
func (s *trial) whileOneRuns(r request, f func()) {
	release, running := make(chan struct{}), make(chan struct{}, 1)
	s.backend.answerWith(func(w http.ResponseWriter, _ *http.Request) {
		running <- struct{}{}
		<-release
		w.WriteHeader(http.StatusCreated)
	})
	done := make(chan answer)
	go func() { done <- s.send(r) }()
	<-running
	f()
	close(release)
	s.is(<-done, 201)
}

// sendRaw sends a request with the example's key in a field whose name has the given case.
func (s *trial) sendRaw(name string) answer {
	return s.send(request{spelled: name})
}
