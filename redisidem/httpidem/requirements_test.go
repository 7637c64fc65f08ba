package httpidem_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Tests of the requirements that docs/security.md lists, for those lines that no other test is
// about.

func TestS3_AnotherRouteOrMethodIsAMismatch(t *testing.T) {
	t.Parallel()
	h := counting(created("done"))
	server := serve(t, newStore(t).middleware(&httpidem.Config{Methods: []string{"POST", "PATCH", "PUT"}}).Handler(h))
	wantStatus(t, post(t, server.URL+"/a/b?c=d", "k", ""), http.StatusCreated)
	for _, c := range []struct{ method, target string }{
		{"POST", "/a"},
		{"POST", "/a/b"},
		{"POST", "/a/b?c=d&"},
		{"POST", "/a/b/?c=d"},
		{"POST", "/a%2Fb?c=d"},
		{"POST", "/a/./b?c=d"},
		{"PATCH", "/a/b?c=d"},
		{"PUT", "/a/b?c=d"},
	} {
		a := post(t, server.URL+c.target, "k", "", func(r *http.Request) { r.Method = c.method })
		wantStatus(t, a, http.StatusUnprocessableEntity)
	}
	if a := post(t, server.URL+"/a/b?c=d", "k", ""); !a.replayed() {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	h.ran(t, 1)
}

// TestS4_DeepAndLargeBodiesAreBounded gives the fingerprint of JSON fields what would take a
// careless reader's stack or hours.
func TestS4_DeepAndLargeBodiesAreBounded(t *testing.T) {
	t.Parallel()
	fp := httpidem.Fingerprint{Func: httpidem.JSONFields("a", "b.c")}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}}
	const deep, large = 100_000, 10 << 20
	seen := map[string]int{}
	for i, body := range []string{
		strings.Repeat("[", deep) + strings.Repeat("]", deep),
		strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep),
		`{"a":` + strings.Repeat("[", deep),
		`{"a":"` + strings.Repeat("x", large) + `"}`,
		`{"a":"` + strings.Repeat("x", large) + `","b":{"c":1}}`,
		`{"a":[` + strings.Repeat("1,", large/20) + `1]}`,
		strings.Repeat(" ", large),
	} {
		began := time.Now()
		sum, err := httpidem.FingerprintOf(fp, r, []byte(body))
		if err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("body %d took %v", i, took)
		}
		if other, taken := seen[sum]; taken {
			t.Errorf("body %d has the fingerprint of body %d", i, other)
		}
		seen[sum] = i
	}
}

// TestS4_FingerprintsAreKeyed checks that a reader of Redis cannot compute the stored fingerprint
// of a request without the secret.
func TestS4_FingerprintsAreKeyed(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, secret := range []string{"", strings.Repeat("a", 16), strings.Repeat("b", 16)} {
		s := newStore(t)
		var cfg redisidem.Config
		if secret != "" {
			var err error
			if cfg.FingerprintKeys, err = redisidem.NewFingerprintKeys([]byte(secret)); err != nil {
				t.Fatal(err)
			}
		}
		h := newMiddleware(t, s.service(cfg), nil).Handler(created("done"))
		for _, body := range []string{"1", "2"} {
			if w := call(h, newRequest(t.Context(), "key-"+body, body)); w.Code != http.StatusCreated {
				t.Fatalf("secret %q, body %q: status %d", secret, body, w.Code)
			}
		}
		for _, name := range s.redis.Keys() {
			stored := s.redis.HGet(name, "fingerprint")
			if other, taken := seen[stored]; taken || stored == "" {
				t.Errorf("secret %q has the fingerprint %q of secret %q", secret, stored, other)
			}
			seen[stored] = secret
		}
	}
	if len(seen) != 6 {
		t.Errorf("%d fingerprints are stored, want 6", len(seen))
	}
}

// TestS5_OneFieldOfAKnownSyntax sends fields as no client library would.
func TestS5_OneFieldOfAKnownSyntax(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(created("done"))
	server := serve(t, s.middleware(nil).Handler(h))
	for _, c := range []struct {
		lines  string
		status int
	}{
		{"Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 400},
		{"Idempotency-Key: a\r\nidempotency-key: a\r\n", 400},
		{"IDEMPOTENCY-KEY: \"a\"\r\nIdempotency-key: \"a\"\r\n", 400},
		{"Idempotency-Key: a\r\nIdempotency-Key:\r\n", 400},
		{"Idempotency-Key: a, b\r\n", 400},
		{"Idempotency-Key: a,\r\n", 400},
		{"Idempotency-Key: \"a\", \"b\"\r\n", 400},
		{"Idempotency-Key:\r\n", 400},
		{"Idempotency-Key: \"\"\r\n", 400},
		{"Idempotency-Key: \"a\r\n", 400},
		{"Idempotency-Key: a\"\r\n", 400},
		{"Idempotency-Key: \"a\\n\"\r\n", 400},
		{"Idempotency-Key: \xc3\xa9\r\n", 400},
		{"Idempotency-Key: \"\xc3\xa9\"\r\n", 400},
		{"Idempotency-Key: a\x00b\r\n", 400},
		{"Idempotency-Key: a\rX-Injected: 1\r\n", 400},
		{"Idempotency-Key: \"a\r\n b\"\r\n", 201}, // an obsolete folded line is one blank
		{"Idempotency-Key: " + strings.Repeat("x", 256) + "\r\n", 400},
		{"Idempotency-Key: " + strings.Repeat("x", 255) + "\r\n", 201},
		{"idempotency-KEY: \t \"one\" \t\r\n", 201},
	} {
		before := s.calls.Load()
		status, answer := raw(t, server.Listener.Addr(), "POST / HTTP/1.1\r\nHost: x\r\nX-Caller: alice\r\nConnection: close\r\n"+c.lines+"Content-Length: 0\r\n\r\n")
		if status != c.status || strings.Contains(strings.ToLower(answer), "\nx-injected") {
			t.Errorf("%q: %d, want %d\n%s", c.lines, status, c.status, answer)
		}
		if c.status == 400 && s.calls.Load() != before {
			t.Errorf("%q: the store was asked", c.lines)
		}
	}
	h.ran(t, 3)
}

// raw sends bytes, and returns the status and everything that came back.
func raw(t *testing.T, addr net.Addr, request string) (status int, answer string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil && len(text) == 0 {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		t.Fatalf("no answer: %q", text)
	}
	if status, err = strconv.Atoi(fields[1]); err != nil {
		t.Fatal(err)
	}
	return status, string(text)
}

// TestS8_NoFieldOfARecordIsTrusted puts garbage into each field of a record in its turn.
func TestS8_NoFieldOfARecordIsTrusted(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "<a>")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "done")
	})
	guarded := s.middleware(&httpidem.Config{FailOpen: true}).Handler(h)
	call(guarded, newRequest(t.Context(), "k", ""))
	names := s.redis.Keys()
	if len(names) != 1 {
		t.Fatalf("the store has %q", names)
	}
	fields, err := s.redis.HKeys(names[0])
	if err != nil {
		t.Fatal(err)
	}
	replay := call(guarded, newRequest(t.Context(), "k", ""))
	for _, field := range fields {
		before := s.redis.HGet(names[0], field)
		for _, garbage := range []string{"", "\x00", "garbage\r\nSet-Cookie: a=1\r\n", "-1", "99", "600", "1000", "1e3", strings.Repeat("9", 400), before + "\n"} {
			if garbage == before {
				continue
			}
			s.redis.HSet(names[0], field, garbage)
			w := call(guarded, newRequest(t.Context(), "k", ""))
			switch {
			case w.Code == http.StatusUnprocessableEntity && field == "fingerprint":
			case w.Code >= 500, w.Code == http.StatusConflict:
			case w.Code == replay.Code && w.Header()["Set-Cookie"] == nil && w.Header().Get("Idempotency-Replayed") == "true":
				// What does not say where the work stands is given as it is: without a codec no one
				// can tell that it was changed.
			default:
				t.Errorf("%s = %.20q: %d %v %s", field, garbage, w.Code, w.Header(), w.Body)
			}
		}
		s.redis.HSet(names[0], field, before)
	}
	h.ran(t, 1)
}

func TestS10_NothingButAMarkerIsStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := s.middleware(&httpidem.Config{Response: httpidem.ResponseConfig{Drop: true}}).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/secret-place")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "secret text")
	}))
	if w := call(h, newRequest(t.Context(), "k", "")); w.Body.String() != "secret text" {
		t.Fatal(w.Body)
	}
	for _, name := range s.redis.Keys() {
		if body := s.redis.HGet(name, "response_body"); body != "" {
			t.Errorf("the record has the body %q", body)
		}
	}
	if text := s.redis.Dump(); strings.Contains(text, "secret") {
		t.Error(text)
	}
	if w := call(h, newRequest(t.Context(), "k", "")); w.Code != http.StatusGone || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestS16_KeysOfOthersAreNoOracle compares what bob gets, and how fast, for keys that alice has
// used with what he gets for keys that do not exist.
func TestS16_KeysOfOthersAreNoOracle(t *testing.T) {
	t.Parallel()
	m := newStore(t).middleware(nil)
	begun, release := make(chan struct{}), make(chan struct{})
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hold") != "" {
			close(begun)
			<-release
		}
		w.WriteHeader(http.StatusCreated)
	}))
	held := make(chan struct{})
	go func() {
		defer close(held)
		r := newRequest(t.Context(), "in-flight", "")
		r.Header.Set("X-Hold", "1")
		call(h, r)
	}()
	<-begun
	bob := func(key string) (time.Duration, *http.Response) {
		r := newRequest(t.Context(), key, "bob's")
		r.Header.Set(callerHeader, "bob")
		began := time.Now()
		w := call(h, r)
		return time.Since(began), w.Result()
	}
	const n = 400
	for i := range n {
		call(h, newRequest(t.Context(), "known-"+strconv.Itoa(i), "alice's"))
	}
	var known, unknown []time.Duration
	for i := range n {
		for name, times := range map[string]*[]time.Duration{"known-": &known, "other-": &unknown} {
			took, a := bob(name + strconv.Itoa(i))
			if a.StatusCode != http.StatusCreated || a.Header.Get("Idempotency-Replayed") != "" {
				t.Fatalf("%s%d: %d %v", name, i, a.StatusCode, a.Header)
			}
			*times = append(*times, took)
		}
	}
	if _, a := bob("in-flight"); a.StatusCode != http.StatusCreated {
		t.Errorf("in flight elsewhere: %d", a.StatusCode)
	}
	close(release)
	<-held
	slices.Sort(known)
	slices.Sort(unknown)
	if a, b := known[n/2], unknown[n/2]; a > 2*b || b > 2*a {
		t.Errorf("half of the keys that another knows took at most %v, of keys that do not exist %v", a, b)
	}
}

func TestS17_ReplaysAreMarkedAndNotCached(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Idempotency-Replayed", "true") // which is not the handler's to say
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Expires", "Thu, 01 Dec 2094 16:00:00 GMT")
		w.WriteHeader(http.StatusCreated)
	}))
	first := call(h, newRequest(t.Context(), "k", ""))
	if first.Header()["Idempotency-Replayed"] != nil || first.Header().Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("first: %v", first.Header())
	}
	for range 2 {
		w := call(h, newRequest(t.Context(), "k", ""))
		if w.Header().Get("Idempotency-Replayed") != "true" || !slices.Equal(w.Header()["Cache-Control"], []string{"no-store"}) || w.Header()["Expires"] != nil {
			t.Errorf("replay: %v", w.Header())
		}
	}
}
