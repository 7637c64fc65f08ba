// Package httpclause tests the behaviour that draft-ietf-httpapi-idempotency-key-header-07
// (expired) requires of a server. The tests run against any HTTP server: a handler behind the
// middleware, or a gateway in front of the handler. Each test is named after its clause.
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

// client sends the requests. It has a transport of its own: a server that another test closes also
// closes the idle connections of the default one.
var client = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}

// Options configure a target for a clause. The zero value is a target with the defaults: a key is
// required, keys without quotes are accepted, and POST and PATCH are covered.
type Options struct {
	// Strict, Optional, Methods, PolicyURL and PublishRetention are the settings of the middleware
	// with these names.
	Strict           bool
	Optional         bool
	Methods          []string
	PolicyURL        string
	PublishRetention bool
	// UUIDs accepts only keys that are UUIDs.
	UUIDs bool
	// Window accepts only version 7 UUIDs and ULIDs that were created within Window of now.
	Window time.Duration
	// JSONFields are the fields in the fingerprint, besides method, path, query and media type.
	JSONFields []string
	// KeepAll stores responses with every status.
	KeepAll bool
}

// Target is a running server in front of the backend of a test.
type Target struct {
	// URL is the address of the root, without a slash at the end.
	URL string
	// As authenticates a request as the named caller. Names consist of letters.
	As func(r *http.Request, caller string)
	// StoreCalls returns the number of commands that the store has received.
	StoreCalls func() int
}

// Start starts a target that forwards requests to the backend. The target ends with the test.
type Start func(t *testing.T, o Options, backend http.Handler) *Target

// Run runs all clauses in parallel, each against a target of its own.
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

// Names returns the names of all clauses, which are the names of the subtests of Run.
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

// backend is a handler that counts its runs.
type backend struct {
	runs atomic.Int64
	// serve answers the requests. Nil means the default.
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

// request is a request of a test. The comments give the defaults.
type request struct {
	method string   // POST
	path   string   // /orders
	keys   []string // the lines of the header field; none
	body   string   // none
	kind   string   // application/json
	caller string   // alice
	host   string   // the target's own
	header map[string]string
	// spelled is the name of a field for the example's key, in the case in which it is sent.
	spelled string
}

// answer is the response to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) replayed() bool { return a.header.Get("Idempotency-Replayed") == "true" }

// send sends a request. It may be called from any goroutine. A failure is an error of the test, and
// an answer with status 0.
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
		req.Header[r.spelled] = []string{example} // Set would make the name canonical
	}
	s.target.As(req, r.caller)
	resp, err := client.Do(req)
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

// key returns the lines of a request's header field.
func key(lines ...string) []string { return lines }

func def(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// ran fails the test unless the backend has run want times.
func (s *trial) ran(want int64) {
	s.Helper()
	if got := s.backend.runs.Load(); got != want {
		s.Errorf("the handler has run %d times, want %d", got, want)
	}
}

// is fails the test unless the answer has the status.
func (s *trial) is(a answer, status int) answer {
	s.Helper()
	if a.status != status {
		s.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// isProblem fails the test unless the answer is a problem with the status and the title.
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

// isReplayOf fails the test unless b equals a and is marked as a replay.
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
