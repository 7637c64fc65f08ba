package httpidem

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/internal/httptoken"
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
	lease         time.Duration
	retention     string
	maxScopeBytes int
	maxValueBytes int
	waiting       atomic.Int64 // the number of requests that may be waiting for an earlier one
	made          string       // the source position of the call of New
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
		service: service, scope: scope, cfg: cfg.withDefaults(&core), storedFields: make(map[string]struct{}), lease: core.Lease,
		retention: strconv.Itoa(wholeSeconds(core.Retention)), maxScopeBytes: core.MaxKeyBytes, maxValueBytes: core.MaxValueBytes,
		made: caller(),
	}
	if err := m.cfg.validate(&core); err != nil {
		return nil, err
	}
	m.cfg.Key.Header = http.CanonicalHeaderKey(m.cfg.Key.Header)
	for _, name := range slices.Concat(DefaultKeepHeaders(), m.cfg.Profile.keepHeaders(), m.cfg.Response.KeepHeaders) {
		m.storedFields[http.CanonicalHeaderKey(name)] = struct{}{}
	}
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !httptoken.Covers(m.cfg.Methods, r.Method) || !routed(next, r) {
		m.bypass(w, r, next)
		return
	}
	x, bypass := m.resolve(w, r)
	switch {
	case bypass:
		m.bypass(w, r, next)
	case x != nil:
		defer x.slot.release()
		(&handlerRun{keyedRequest: x, next: next}).serve()
	}
}

// redirects is the type of [http.RedirectHandler], which a mux also uses for its own redirects.
var redirects = reflect.TypeOf(http.RedirectHandler("/", http.StatusTemporaryRedirect))

// routed reports whether a handler may do work for a request. A mux that has no route for it, or
// redirects it, does not.
func routed(h http.Handler, r *http.Request) bool {
	mux, ok := h.(*http.ServeMux)
	if !ok {
		return reflect.TypeOf(h) != redirects
	}
	h, pattern := mux.Handler(r)
	return pattern != "" && routed(h, r)
}

func (m *Middleware) bypass(w http.ResponseWriter, r *http.Request, next http.Handler) {
	m.observe(r.Context(), ResultBypassed, 0, nil)
	next.ServeHTTP(w, r)
}

// doWithFingerprint calls do. If the record has a fingerprint of another version, it calls do again
// with that version.
func (x *keyedRequest) doWithFingerprint(do func(redisidem.Request) (*redisidem.Key, error)) (*redisidem.Key, error) {
	key, err := do(x.request)
	if errors.Is(err, redisidem.ErrFingerprintMismatch) && x.refingerprint() {
		key, err = do(x.request)
	}
	return key, err
}

// fail answers a request for which the service returned an error. ran is whether the handler ran.
func (x *keyedRequest) fail(err error, ran bool) {
	m := x.middleware
	err = x.nested(err)
	p := m.problem(m.resultOf(err, ran))
	if p.Result == ResultInFlight {
		p.RetryAfter = time.Second
		if locked := (*redisidem.LockedError)(nil); errors.As(err, &locked) {
			p.RetryAfter = min(locked.RetryAfter, m.cfg.MaxRetryAfter)
		}
		p.RetryAfter = max(p.RetryAfter, time.Second)
	}
	m.refuse(x.w, x.r, p, err)
}

// resultOf returns the result of a request for which the service returned an error.
func (m *Middleware) resultOf(err error, ran bool) Result {
	switch {
	case errors.Is(err, redisidem.ErrFenced):
		return ResultSuperseded
	case ran:
		return ResultUnacknowledged
	case errors.Is(err, redisidem.ErrFingerprintMismatch):
		return ResultMismatch
	case errors.Is(err, redisidem.ErrLocked):
		return ResultInFlight
	case errors.Is(err, redisidem.ErrNested), errors.Is(err, redisidem.ErrDamaged), errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrOtherFlow):
		return ResultFailed
	}
	return ResultUnavailable
}

// handlerRun is one run of a handler for a request.
type handlerRun struct {
	*keyedRequest
	next http.Handler

	run      run
	capture  *capture
	panicked bool // and serve has to repeat the panic
	value    any  // what the handler panicked with
}

// errClientGone reports that the client disconnected before the handler started.
var errClientGone = errors.New("httpidem: the request ended before its handler began")

// releasedError makes the service release the key: the response is not stored.
type releasedError struct{ result Result }

func (e *releasedError) Error() string { return "httpidem: the answer is " + e.result.String() }

// Is reports an unknown outcome to the service and its observers.
func (e *releasedError) Is(target error) bool {
	return e.result == ResultOutcomeUnknown && target == redisidem.ErrOutcomeUnknown
}

// serve claims the key, runs the handler under the lease, and answers.
func (e *handlerRun) serve() {
	// A request that waits for the lease ends with its client. Once the handler has started, it
	// runs to its end and its response is stored.
	client := e.r.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(client))
	defer cancel(nil)
	stopWatching := context.AfterFunc(client, func() { cancel(context.Cause(client)) })
	defer stopWatching()
	begin := e.queue()
	defer begin()

	key, err := e.doWithFingerprint(func(req redisidem.Request) (*redisidem.Key, error) {
		return e.scope.Do(ctx, e.key, req, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			e.slot.made = isNew(st.Key())
			if point := st.Key().RecoveryPoint; point != redisidem.Started {
				return redisidem.Outcome{}, redisidem.ErrUnknownRecoveryPoint
			}
			if client.Err() != nil || !e.middleware.cfg.CancelWithClient && !stopWatching() {
				return redisidem.NothingDone(), nil
			}
			begin()
			if deadline, ok := client.Deadline(); ok {
				bounded, cancel := context.WithDeadline(ctx, deadline)
				defer cancel()
				ctx = bounded
			}
			e.run.stage = st
			return e.handle(e.run.in(ctx, e.middleware))
		})
	})
	e.answer(key, err)
	if e.panicked {
		panic(e.value)
	}
}

// isNew reports whether the current claim created the record.
func isNew(key *redisidem.Key) bool { return key.CreatedAt.Equal(key.LockedAt) }

// queue counts the request as waiting, or turns its waiting off if MaxWaiting is reached. The
// function that it returns ends the count.
func (x *keyedRequest) queue() func() {
	m := x.middleware
	if m.cfg.Wait <= 0 {
		return func() {}
	}
	if m.waiting.Add(1) > int64(m.cfg.MaxWaiting) {
		x.scope = x.scope.Wait(0)
	}
	return sync.OnceFunc(func() { m.waiting.Add(-1) })
}

// handle runs the handler, and returns the outcome to store.
func (e *handlerRun) handle(ctx context.Context) (outcome redisidem.Outcome, err error) {
	m := e.middleware
	e.capture = &capture{
		w: e.w, limit: m.cfg.Response.MaxBytes, flush: !m.cfg.Response.KeepFlushed, setOwnFields: e.setOwnFields, before: e.w.Header().Clone(),
	}
	r := e.r.WithContext(ctx)
	restoreBody(r, e.body)

	returned := false
	defer func() {
		// Outer code reads its own request: the server removes the files of a form, for example.
		e.r.Pattern = r.Pattern
		if e.r.MultipartForm == nil {
			e.r.MultipartForm = r.MultipartForm
		}
		if returned {
			return
		}
		e.capture.finish()
		e.restoreHeader()
		m.observe(e.r.Context(), ResultPanicked, 0, nil)
		// Usually the panic continues, and the service releases the key. A retry must not run if a
		// part of the response was sent, or if the policy keeps everything. Then the panic is
		// repeated after the key is finished.
		if !e.keepsPanic() {
			return
		}
		if e.value = recover(); e.value != nil { // it is nil during runtime.Goexit, which cannot be stopped
			e.panicked = true
			status := 0
			if e.capture.isSent() {
				status = e.capture.status
			}
			outcome, err = redisidem.Finish(notKept(status)), nil
		}
	}()
	e.next.ServeHTTP(e.capture, r)
	returned = true
	e.capture.finish()
	return e.outcome()
}

// keepsPanic reports whether a panic of the handler finishes the key.
func (e *handlerRun) keepsPanic() bool {
	if e.run.outcomeUnknown.Load() && !e.capture.isSent() {
		return false
	}
	return e.middleware.cfg.Response.Status(http.StatusInternalServerError) == DispositionKeep ||
		e.capture.isSent() && (e.capture.hijacked || e.disposition() == DispositionKeep)
}

// outcome returns the outcome to store for the handler's response.
func (e *handlerRun) outcome() (redisidem.Outcome, error) {
	c, m := e.capture, e.middleware
	switch {
	case e.run.nothingDone.Load():
		return redisidem.NothingDone(), nil
	case e.outside():
		if m.cfg.Response.Status(http.StatusInternalServerError) == DispositionKeep {
			return redisidem.Finish(notKept(0)), nil
		}
		return redisidem.Outcome{}, &releasedError{ResultReleased}
	case c.hijacked, c.status == http.StatusSwitchingProtocols:
		return redisidem.Finish(notKept(0)), nil
	case c.isIncomplete(e.r.Method), e.run.outcomeUnknown.Load() && !c.isSent():
		return redisidem.Outcome{}, &releasedError{ResultOutcomeUnknown}
	}
	switch e.disposition() {
	case DispositionRelease:
		return redisidem.Outcome{}, &releasedError{ResultReleased}
	case DispositionUnknown:
		return redisidem.Outcome{}, &releasedError{ResultOutcomeUnknown}
	default: // DispositionKeep, and invalid values: finished work must not run again
	}
	if c.isSent() {
		return redisidem.Finish(notKept(c.status)), nil
	}
	return redisidem.Finish(m.stored(c)), nil
}

// disposition returns what the policy does with the handler's response.
func (e *handlerRun) disposition() Disposition {
	return e.middleware.cfg.Response.Status.Of(e.capture.status, e.capture.header, e.run.stage.Attempt())
}

// outside reports whether code outside of the middleware writes the response.
func (e *handlerRun) outside() bool { return e.run.answeredOutside.Load() && !e.capture.isSent() }

// restoreHeader restores the header from before the handler ran, unless a part of the response was
// sent.
func (e *handlerRun) restoreHeader() {
	if !e.capture.isSent() {
		e.capture.discard()
		e.setOwnFields(e.w.Header())
	}
}

// answer writes the response, given the result of the service.
func (e *handlerRun) answer(key *redisidem.Key, err error) {
	m, ctx := e.middleware, e.r.Context()
	released := (*releasedError)(nil)
	switch {
	case e.capture == nil && err == nil && key.Answered():
		e.replay(key.Response)
	case e.capture == nil && err == nil:
		e.fail(errClientGone, false)
	case e.capture == nil && errors.Is(err, redisidem.ErrNotKept):
		e.replay(nil)
	case e.capture == nil:
		e.withoutStore(err)
	case e.panicked:
	case e.run.nothingDone.Load():
		m.observe(ctx, ResultReleased, e.status(), err)
		e.deliver()
	case errors.As(err, &released):
		m.observe(ctx, released.result, e.status(), nil)
		e.deliver()
	case err == nil:
		result := ResultExecuted
		if key.Response == nil || key.Response.Header[notKeptHeader] != nil {
			result = ResultNotKept
		}
		m.observe(ctx, result, e.status(), nil)
		e.deliver()
	case errors.Is(err, redisidem.ErrNotKept): // a codec of the service could not store the response
		m.observe(ctx, ResultNotKept, e.status(), err)
		e.deliver()
	case e.capture.isSent(), m.cfg.AnswerUnacknowledged && m.resultOf(err, true) == ResultUnacknowledged:
		m.observe(ctx, m.resultOf(err, true), e.capture.status, err)
		e.deliver()
	default:
		e.restoreHeader()
		e.fail(err, true)
	}
}

// status returns the status of the handler's response, or 0 if code outside of the middleware
// writes it.
func (e *handlerRun) status() int {
	if e.outside() {
		return 0
	}
	return e.capture.status
}

// deliver sends the handler's response, unless it was sent before or is written outside.
func (e *handlerRun) deliver() {
	switch {
	case e.capture.isSent():
	case e.outside():
		e.setOwnFields(e.w.Header())
	default:
		e.capture.send()
	}
}

// withoutStore answers a request whose handler has not run because of err. With Config.FailOpen it
// runs the handler without protection.
func (e *handlerRun) withoutStore(err error) {
	m := e.middleware
	if !m.cfg.FailOpen || !errors.Is(err, redisidem.ErrUnavailable) || e.r.Context().Err() != nil {
		e.fail(err, false)
		return
	}
	m.observe(e.r.Context(), ResultOpened, 0, err)
	r := e.r.WithContext(e.run.in(e.r.Context(), m))
	restoreBody(r, e.body)
	// The zero limit holds nothing back: capture only sets the header fields.
	e.capture = &capture{w: e.w, flush: true, setOwnFields: e.setOwnFields, before: e.w.Header().Clone()}
	returned := false
	defer func() {
		if !returned {
			e.capture.finish()
			e.restoreHeader()
		}
	}()
	e.next.ServeHTTP(e.capture, r)
	returned = true
	e.capture.finish()
	e.deliver()
}
