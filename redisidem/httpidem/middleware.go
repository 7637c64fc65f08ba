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

// Middleware makes the retries of HTTP requests safe. Make one with [New] for each policy, and wrap
// handlers with [Middleware.Handler]; several may share a service. It is safe for concurrent use.
type Middleware struct {
	service       *redisidem.Service
	scope         ScopeFunc
	cfg           Config
	storedFields  map[string]struct{} // the fields of answers that are stored
	lease         time.Duration
	retention     string
	maxScopeBytes int
	maxValueBytes int
	waiting       atomic.Int64 // requests that may be waiting for an earlier one
	made          string       // where in the program it was made
}

// New makes a Middleware that keeps its keys with a service. The scope function is required:
// [Unscoped] says on purpose that all callers are one. A nil cfg means all defaults. It sends
// nothing.
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

// Handler returns a handler that runs next once for each key, and gives its answer again to each
// retry. It has the shape of net/http middleware: func(http.Handler) http.Handler.
//
// It belongs inside of authentication and rate limiting, and outside of what reads the body. It
// blocks for a round trip to the store before next runs and another one after it, and with
// Config.Wait for that time.
//
// What a [http.ServeMux] as next answers by itself, since it has no route for the request or
// redirects it, goes through unprotected.
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

// redirects is the type of the handlers that only redirect, a mux's own among them.
var redirects = reflect.TypeOf(http.RedirectHandler("/", http.StatusTemporaryRedirect))

// routed reports whether a handler may do work for a request: a mux that has no route for it, or
// redirects it, does none.
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

// doWithFingerprint calls do until the fingerprint fits the one of the record, which may be of
// another version.
func (x *keyedRequest) doWithFingerprint(do func(redisidem.Request) (*redisidem.Key, error)) (*redisidem.Key, error) {
	key, err := do(x.request)
	if errors.Is(err, redisidem.ErrFingerprintMismatch) && x.refingerprint() {
		key, err = do(x.request)
	}
	return key, err
}

// fail answers a request for which the core returned an error. ran reports whether the handler ran
// for it.
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
	panicked bool // and the panic is held up
	value    any  // what the handler panicked with
}

// errClientGone says that the client left before the handler began.
var errClientGone = errors.New("httpidem: the request ended before its handler began")

// releasedError makes the core give the lease back: the answer is not to be stored.
type releasedError struct{ result Result }

func (e *releasedError) Error() string { return "httpidem: the answer is " + e.result.String() }

// Is makes an answer that does not tell whether the work was done known to the core and its
// observers.
func (e *releasedError) Is(target error) bool {
	return e.result == ResultOutcomeUnknown && target == redisidem.ErrOutcomeUnknown
}

// serve asks for the lease on the key, runs the handler under it, and answers.
func (e *handlerRun) serve() {
	// A request that waits for the lease ends with its client. Once the handler has begun, what it
	// does is finished and stored.
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

// isNew reports whether the record was made by the claim that its lease was given by.
func isNew(key *redisidem.Key) bool { return key.CreatedAt.Equal(key.LockedAt) }

// queue enters the request among those that may wait, or makes it one that does not. The function
// it returns takes it out again.
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
		// What stands outside looks at its own request, as a server that removes the files of a
		// form.
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
		// A panic goes on as it is, and the core gives the lease back, unless a retry must not run:
		// something of the answer has left already, or the policy is that nothing runs twice. Then
		// the panic is held up until that is stored.
		if !e.keepsPanic() {
			return
		}
		if e.value = recover(); e.value != nil { // it is nil while runtime.Goexit ends the goroutine, which nothing can hold up
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

// keepsPanic reports whether a panic of the handler's ends the work on the key.
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
	default: // DispositionKeep, and invalid values: work that was done must not run again
	}
	if c.isSent() {
		return redisidem.Finish(notKept(c.status)), nil
	}
	return redisidem.Finish(m.stored(c)), nil
}

// disposition returns what happens to the answer that the handler gave.
func (e *handlerRun) disposition() Disposition {
	return e.middleware.cfg.Response.Status.Of(e.capture.status, e.capture.header, e.run.stage.Attempt())
}

// outside reports whether code outside of the middleware writes the answer.
func (e *handlerRun) outside() bool { return e.run.answeredOutside.Load() && !e.capture.isSent() }

// restoreHeader makes the header what it was before the handler ran, unless some of the handler's
// answer has left.
func (e *handlerRun) restoreHeader() {
	if !e.capture.isSent() {
		e.capture.discard()
		e.setOwnFields(e.w.Header())
	}
}

// answer answers the request, after the core has done its part.
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
	case errors.Is(err, redisidem.ErrNotKept): // by a codec of the service's
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

// status returns the status of the handler's answer; 0 if code outside of the middleware writes it.
func (e *handlerRun) status() int {
	if e.outside() {
		return 0
	}
	return e.capture.status
}

// deliver sends the handler's answer, unless it has left already or is written outside.
func (e *handlerRun) deliver() {
	switch {
	case e.capture.isSent():
	case e.outside():
		e.setOwnFields(e.w.Header())
	default:
		e.capture.send()
	}
}

// withoutStore answers a request for which the handler has not run because of err.
func (e *handlerRun) withoutStore(err error) {
	m := e.middleware
	if !m.cfg.FailOpen || !errors.Is(err, redisidem.ErrUnavailable) || e.r.Context().Err() != nil {
		e.fail(err, false)
		return
	}
	m.observe(e.r.Context(), ResultOpened, 0, err)
	r := e.r.WithContext(e.run.in(e.r.Context(), m))
	restoreBody(r, e.body)
	// Without a limit to hold back, so that only the header is changed.
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
