package httpidem

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// Middleware makes retries of HTTP requests safe. Make one with [New] for each policy, and wrap
// handlers with [Middleware.Handler] or [Middleware.Flow]. Several can share a service. It is safe
// for concurrent use.
type Middleware struct {
	service       *redisidem.Service
	scope         ScopeFunc
	cfg           Config
	storedFields  map[string]struct{} // the response fields that are stored
	replayMarks   []string            // the fields that mark a replay
	profileMarks  []string            // those of the profile
	exposed       []string            // the fields that pages of other origins may read
	lease         time.Duration
	retention     string
	maxScopeBytes int
	maxValueBytes int
	waiting       atomic.Int64 // the number of requests that may be waiting for an earlier one
	position      string       // the source position of the call of New

	// verify returns an error for a delivery of a webhook that its sender has not signed. It is nil
	// unless NewWebhook made the middleware.
	verify func(r *http.Request, body []byte) error
}

// New returns a Middleware that keeps its keys in a service. The scope function is required: use
// [Unscoped] to share one scope on purpose. A nil cfg means all defaults. New sends nothing to
// Redis.
//
// A field that is out of its bounds is a [*redisidem.InvalidError].
func New(service *redisidem.Service, scope ScopeFunc, cfg *Config) (*Middleware, error) {
	switch {
	case service == nil:
		return nil, invalid("service", "must not be nil")
	case scope == nil:
		return nil, invalid("scope", "must not be nil; Unscoped puts all callers into one scope")
	}
	core := service.Config()
	m := &Middleware{
		service: service, scope: scope, cfg: cfg.withDefaults(&core), lease: core.Lease,
		retention: strconv.Itoa(wholeSeconds(core.Retention)), maxScopeBytes: core.MaxKeyBytes, maxValueBytes: core.MaxValueBytes,
		position: callerPosition(),
	}
	if err := m.cfg.validate(&core); err != nil {
		return nil, err
	}
	m.cfg.Key.Header = http.CanonicalHeaderKey(m.cfg.Key.Header)
	for i := range m.cfg.Key.Sources {
		m.cfg.Key.Sources[i].Header = http.CanonicalHeaderKey(m.cfg.Key.Sources[i].Header)
	}
	m.storedFields = m.cfg.storedFields()
	m.replayMarks, m.profileMarks = m.cfg.replayMarks(), m.cfg.Profile.marks()
	m.exposed = append([]string{m.cfg.Key.Header}, m.replayMarks...)
	return m, nil
}

// Handler returns a handler that runs next once for each key, and answers retries with the same
// response. It is net/http middleware: func(http.Handler) http.Handler.
//
// Place it inside of authentication and rate limiting, and outside of code that reads the body. It
// blocks for one round trip to the store before next runs, and for another one afterwards. A
// request that waits for an earlier one blocks for up to Config.Wait.
//
// If next is an [http.ServeMux], a request that the mux has no route for, or redirects, is not
// protected.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next, 0) })
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler, limit time.Duration) {
	covered := m.covers(r)
	switch {
	case !covered && m.verify != nil:
		m.refuseMethod(w, r)
		return
	case !covered || !routed(next, r):
		m.bypass(w, r, next)
		return
	}
	e := &handlerRun{next: next}
	switch verdict := e.check(m, w, r); {
	case verdict == unkeyed:
		m.bypass(w, r, next)
	case verdict == refused:
	case verdict == oversize:
		defer e.release()
		e.serveOversize(next)
	case limit > 0:
		e.serveWithin(limit)
	default:
		defer e.release()
		e.serve()
	}
}

func (m *Middleware) bypass(w http.ResponseWriter, r *http.Request, next http.Handler) {
	m.report(r.Context(), Event{Result: ResultBypassed})
	next.ServeHTTP(w, r)
}
