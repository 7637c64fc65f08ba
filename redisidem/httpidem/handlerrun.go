package httpidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// handlerRun is one run of a handler for a request.
type handlerRun struct {
	*keyedRequest
	next http.Handler

	state      handlerState
	capture    *capture
	panicked   bool // and serve has to repeat the panic
	panicValue any  // what the handler panicked with
}

// errClientGone reports that the client disconnected before the handler started.
var errClientGone = errors.New("httpidem: the client disconnected before the handler started")

// serve claims the key, runs the handler under the lease, and answers.
func (e *handlerRun) serve() {
	// A request that waits for the lease ends with its client. Once the handler has started, it
	// runs to its end and its response is stored.
	client := e.r.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(client))
	defer cancel(nil)
	stopWatching := context.AfterFunc(client, func() { cancel(context.Cause(client)) })
	defer stopWatching()
	stopWaiting := e.countAsWaiting()
	defer stopWaiting()

	key, err := e.doWithFingerprint(func(req redisidem.Request) (*redisidem.Key, error) {
		return e.scope.Do(ctx, e.key, req, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			e.slot.created = isNew(st.Key())
			if point := st.Key().RecoveryPoint; point != redisidem.Started {
				return redisidem.Outcome{}, redisidem.ErrUnknownRecoveryPoint
			}
			if client.Err() != nil || !e.middleware.cfg.CancelWithClient && !stopWatching() {
				return redisidem.NothingDone(), nil
			}
			stopWaiting()
			if deadline, ok := client.Deadline(); ok {
				bounded, cancel := context.WithDeadline(ctx, deadline)
				defer cancel()
				ctx = bounded
			}
			e.state.stage = st
			return e.handle(e.state.newContext(ctx, e.middleware))
		})
	})
	e.answer(key, err)
	if e.panicked {
		panic(e.panicValue)
	}
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
	defer e.recoverPanic(&returned, &outcome)
	defer func() {
		// The handler got a copy of the request, and code outside has the original. The server, for
		// example, removes the files of the original's form.
		e.r.Pattern = r.Pattern
		if e.r.MultipartForm == nil {
			e.r.MultipartForm = r.MultipartForm
		}
	}()
	e.next.ServeHTTP(e.capture, r)
	returned = true
	e.capture.finish()
	return e.outcome()
}

// restoreHeader restores the header from before the handler ran, unless a part of the response was
// sent.
func (e *handlerRun) restoreHeader() {
	if !e.capture.isSent() {
		e.capture.discard()
		e.setOwnFields(e.w.Header())
	}
}
