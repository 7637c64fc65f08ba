// Package httpclause is the behaviour that draft-ietf-httpapi-idempotency-key-header-07 (expired)
// asks of a server, as tests that run against anything that speaks HTTP: a handler behind the
// middleware, or a gateway in front of the handler. Each test is named after the clause it is
// about.
package httpclause

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Options say how a target must be set up for a clause. The zero value is a target with its
// defaults: a key is required, without quotes will do, and POST and PATCH are covered.
type Options struct {
	// Strict, Optional, Methods, PolicyURL and PublishRetention are the middleware's settings of
	// these names.
	Strict           bool
	Optional         bool
	Methods          []string
	PolicyURL        string
	PublishRetention bool
	// UUIDs: keys must be UUIDs.
	UUIDs bool
	// Window: keys must be version 7 UUIDs or ULIDs, not older than that nor as far ahead.
	Window time.Duration
	// JSONFields: only these count for the fingerprint, besides method, path, query and media type.
	JSONFields []string
	// KeepAll: every status is stored.
	KeepAll bool
}

// Target is a running server with a handler of the suite's behind it.
type Target struct {
	// URL is where its root is, without a slash at the end.
	URL string
	// As makes a request one of the named caller's, as authentication understands it. Names are
	// letters.
	As func(r *http.Request, caller string)
	// StoreCalls returns how many commands the store has got so far. Nil: the target does not
	// report them, and what needs it is left out.
	StoreCalls func() int
}

// Start starts a target that passes requests to the backend, for the length of a test.
type Start func(t *testing.T, o Options, backend http.Handler) *Target

// Run runs all clauses, each against a target of its own.
func Run(t *testing.T, start Start) {
	t.Helper()
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &trial{T: t, backend: &backend{}}
			s.target = start(t, c.options, s.backend)
			c.test(s)
		})
	}
}

// Names returns the names of all clauses, as Run gives them to its tests.
func Names() []string {
	names := make([]string, 0, len(clauses))
	for _, c := range clauses {
		names = append(names, c.name)
	}
	return names
}

type clause struct {
	name    string
	options Options
	test    func(s *trial)
}

// backend is the handler whose runs are counted.
type backend struct {
	runs atomic.Int64
	// serve answers a request; nil: the default does.
	serve atomic.Pointer[http.HandlerFunc]
}

// ServeHTTP implements [http.Handler].
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	run := b.runs.Add(1)
	if serve := b.serve.Load(); serve != nil {
		(*serve)(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", fmt.Sprintf("/orders/%d", run))
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "{\"run\":%d,\"got\":%q}\n", run, body)
}

func (b *backend) answerWith(h http.HandlerFunc) { b.serve.Store(&h) }

// trial is one test against one target.
type trial struct {
	*testing.T
	target  *Target
	backend *backend
}

// request is what a test sends. The zero value of each field means what the comment says.
type request struct {
	method string   // POST
	path   string   // /orders
	keys   []string // the lines of the header field; none
	body   string   // none
	kind   string   // application/json
	caller string   // alice
	host   string   // the target's own
	header map[string]string
	// spelled is how the field's name is written, with the example's key in it; as HTTP/1.1 clients
	// do.
	spelled string
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) replayed() bool { return a.header.Get("Idempotency-Replayed") == "true" }

// send sends a request. It may be called from any goroutine: what goes wrong is an answer with
// status 0.
func (s *trial) send(r request) answer {
	def(&r.method, http.MethodPost)
	def(&r.path, "/orders")
	def(&r.kind, "application/json")
	def(&r.caller, "alice")
	var body io.Reader = http.NoBody
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(s.Context(), r.method, s.target.URL+r.path, body)
	if err != nil {
		s.Error(err)
		return answer{header: http.Header{}}
	}
	req.Host = r.host
	req.Header.Set("Content-Type", r.kind)
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	if r.keys != nil {
		req.Header["Idempotency-Key"] = r.keys
	}
	if r.spelled != "" {
		req.Header[r.spelled] = []string{example} // past the canonical form
	}
	s.target.As(req, r.caller)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Error(err)
		return answer{header: http.Header{}}
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Error(err)
	}
	return answer{resp.StatusCode, resp.Header, string(got)}
}

// key makes the lines of a request's header field.
func key(lines ...string) []string { return lines }

func def(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// ran fails the test unless the backend has run so often.
func (s *trial) ran(want int64) {
	s.Helper()
	if got := s.backend.runs.Load(); got != want {
		s.Errorf("the handler has run %d times, want %d", got, want)
	}
}

// is fails the test unless the answer has that status.
func (s *trial) is(a answer, status int) answer {
	s.Helper()
	if a.status != status {
		s.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// isProblem fails the test unless the answer is a problem with that status and title.
func (s *trial) isProblem(a answer, status int, title string) answer {
	s.Helper()
	s.is(a, status)
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		s.Errorf("Content-Type is %q", kind)
	}
	for _, want := range []string{`"type":"http`, `"title":"` + title, fmt.Sprintf(`"status":%d`, status), `"detail":"`} {
		if !strings.Contains(a.body, want) {
			s.Errorf("the problem is without %s: %s", want, a.body)
		}
	}
	if a.replayed() {
		s.Error("a problem is marked as a replay")
	}
	return a
}

// isReplayOf fails the test unless b is a with the mark of a replay.
func (s *trial) isReplayOf(b, a answer) {
	s.Helper()
	if b.status != a.status || b.body != a.body {
		s.Errorf("replayed %d %q, want %d %q", b.status, b.body, a.status, a.body)
	}
	for _, name := range []string{"Content-Type", "Location", "Idempotency-Key"} {
		if got, want := b.header.Values(name), a.header.Values(name); fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("replayed %s: %q, want %q", name, got, want)
		}
	}
	if !b.replayed() || a.replayed() {
		s.Error("not exactly the replay is marked as one")
	}
}
