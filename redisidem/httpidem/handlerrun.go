package httpidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// handlerRun is one run of a handler for a request.
type handlerRun struct {
	keyedRequest
	next http.Handler

	// Both are called after the claim, before the handler starts. stopWatching reports whether the
	// client was still connected then.
	stopWaiting  func()
	stopWatching func() bool

	detachable *detachableWriter // nil without a time limit
	late       bool              // the handler has returned after its client was answered

	state      handlerState
	replayed   replayedBody
	writer     capture
	capture    *capture // nil until the handler starts
	panicked   bool     // the handler has panicked, and serve must panic with panicValue
	panicValue any      // what the handler panicked with
}

// errClientGone reports that the client disconnected before the handler started.
var errClientGone = errors.New("httpidem: the client disconnected before the handler started")

// serve claims the key, runs the handler under the lease, and answers.
func (e *handlerRun) serve() {
	// A request that waits for the lease ends with its client. Once the handler has started, it
	// runs to its end and its response is stored.
	client := e.r.Context()
	ctx := context.WithoutCancel(client)
	e.stopWatching = func() bool { return true }
	// Without a wait the claim is a few calls, each limited by the service's timeout, and run looks
	// at the client after them.
	_, bounded := client.Deadline()
	if cfg := &e.middleware.cfg; cfg.Wait > 0 || cfg.CancelWithClient || bounded || client.Err() != nil {
		claim, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		ctx, e.stopWatching = claim, context.AfterFunc(client, func() { cancel(context.Cause(client)) })
		defer e.stopWatching()
	}
	e.stopWaiting = e.countAsWaiting()
	defer e.stopWaiting()

	key, err := e.do(ctx, e.run)
	e.answer(key, err)
	if e.panicked {
		panic(e.panicValue)
	}
}

// run runs the handler under the lease, unless the client has disconnected.
func (e *handlerRun) run(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	client := e.r.Context()
	e.slot.created = isNew(st.Key())
	if point := st.Key().RecoveryPoint; point != redisidem.Started {
		return redisidem.Outcome{}, redisidem.ErrUnknownRecoveryPoint
	}
	// The client may disconnect between the two conditions, and stopWatching then reports false.
	if client.Err() != nil || !e.middleware.cfg.CancelWithClient && !e.stopWatching() {
		return redisidem.NothingDone(), nil
	}
	e.stopWaiting()
	if deadline, ok := client.Deadline(); ok {
		bounded, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = bounded
	}
	e.state.stage = st
	return e.handle(e.state.newContext(ctx, e.middleware))
}

// handle runs the handler, and returns the outcome to store.
func (e *handlerRun) handle(ctx context.Context) (outcome redisidem.Outcome, err error) {
	m := e.middleware
	e.startCapture(m.cfg.Response.MaxBytes, !m.cfg.Response.KeepFlushed)
	r := e.r.WithContext(ctx)
	e.replayed.restore(r, e.body)

	returned := false
	defer e.recoverPanic(&returned, &outcome)
	defer func() {
		// The handler got a copy of the request, and code outside has the original. The server, for
		// example, removes the files of the original's form.
		e.r.Pattern = r.Pattern
		if e.r.MultipartForm == nil {
			e.r.MultipartForm = r.MultipartForm
		}
	}()
	if e.detachable != nil {
		e.detachable.start()
		defer func() { e.late = e.late || !e.detachable.attach() }()
	}
	e.next.ServeHTTP(e.capture, r)
	returned = true
	e.capture.finish()
	return e.outcome()
}

// startCapture sets the writer of the handler.
func (e *handlerRun) startCapture(limit int, flush bool) {
	e.capture = &e.writer
	e.writer.w, e.writer.request, e.writer.limit, e.writer.flush = e.w, &e.keyedRequest, limit, flush
	e.writer.before.take(e.w.Header())
}

// restoreHeader restores the header from before the handler ran, unless a part of the response was
// sent.
func (e *handlerRun) restoreHeader() {
	if !e.capture.isSent() {
		e.capture.discard()
		e.setOwnFields(e.w.Header())
	}
}
