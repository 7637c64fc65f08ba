package httpidem

import (
	"context"
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// ParamsFunc returns the part of a request that the stages of a flow need. Stages read it as the
// Params of [redisidem.Stage.Key], also when a completer runs them. A []byte is stored as it is,
// any other value as JSON. It must not contain credentials.
//
// The body has been read and must not be changed. An error is answered with 400, as
// [ResultBodyUnreadable]. Params larger than the service's MaxValueBytes are answered with 413, as
// [ResultBodyTooLarge]. The function is called concurrently.
type ParamsFunc func(r *http.Request, body []byte) (any, error)

// Flow returns a handler that runs a flow once for each key. It writes the response of the flow,
// 204 if that has none, or the interim answer of a stage. A retry continues where an earlier
// request stopped, and gets the response once it exists. Stages see only the part of the request
// that params returns. With nil params they see nothing of it.
//
// A request without a key is refused, even with Config.Key.Optional. A method that is not covered
// is answered with 405. A flow decides its own response, so Response, AnswerUnacknowledged and
// FailOpen of the Config have no effect. A failed stage is answered with a 503 problem, an idle
// flow with a 409 problem, and a flow that an operator has paused with a 503 problem. All ask the
// client to try again.
//
// It returns a [*redisidem.InvalidError] for a nil flow, and for a Config with OtherFingerprints,
// which only handlers support.
func (m *Middleware) Flow(flow *redisidem.Flow, params ParamsFunc) (http.Handler, error) {
	switch {
	case flow == nil:
		return nil, invalid("flow", "must not be nil")
	case len(m.cfg.OtherFingerprints) > 0:
		return nil, invalid("Config.OtherFingerprints", "cannot go with a flow")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serveFlow(w, r, flow, params) }), nil
}

func (m *Middleware) serveFlow(w http.ResponseWriter, r *http.Request, flow *redisidem.Flow, params ParamsFunc) {
	if !m.covers(r) {
		m.refuseMethod(w, r)
		return
	}
	x := &keyedRequest{flow: true}
	switch x.check(m, w, r) {
	case refused, oversize:
		return
	case unkeyed:
		x.refuse(m.problem(ResultMissing), errMissing)
		return
	case accepted:
	}
	defer x.release()
	x.request.Params = nil
	if params != nil {
		var err error
		if x.request.Params, err = params(r, x.body.bytes); err != nil {
			x.refuse(m.problem(ResultBodyUnreadable), err)
			return
		}
	}
	x.runFlow(flow)
}

// runFlow runs the flow and writes its result.
func (x *keyedRequest) runFlow(flow *redisidem.Flow) {
	m := x.middleware
	ctx := x.r.Context()
	if !m.cfg.CancelWithClient {
		deadline, bounded := ctx.Deadline()
		ctx = context.WithoutCancel(ctx)
		if bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
	}
	returned := false
	defer func() {
		if !returned {
			x.observe(ResultPanicked, 0, nil)
		}
	}()
	stopWaiting := x.countAsWaiting() // it counts as waiting until it ends, since a flow does not report its begin
	defer stopWaiting()
	key, err := x.scope.DoFlow(ctx, x.key, x.request, flow)
	returned = true
	x.slot.created = isNew(key)
	switch {
	case err != nil:
		x.failFlow(key, err)
	case key.Replayed():
		x.replay(key.Response)
	case key.Answered():
		x.reply(key.Response)
	default:
		x.refuse(m.problem(ResultInFlight), nil)
	}
}

// failFlow answers a request whose flow returned an error.
func (x *keyedRequest) failFlow(key *redisidem.Key, err error) {
	m := x.middleware
	_, stageFailed := errors.AsType[*redisidem.StageError](err)
	_, compensationFailed := errors.AsType[*redisidem.CompensationError](err)
	refused, isRefused := errors.AsType[*redisidem.InvalidError](err)
	switch {
	case stageFailed, compensationFailed:
		// Other errors that it matches may belong to another key that the stage uses.
		x.refuseUnfinished(err)
	case errors.Is(err, redisidem.ErrPaused):
		x.refuse(m.problem(ResultPaused), err)
	case errors.Is(err, redisidem.ErrNotKept):
		x.refuseGone(0, err)
	// A stage can return ErrInvalid too. Without an attempt, the store has refused the request
	// itself.
	case key.Attempts == 0 && isRefused && refused.Field == "Request.Params" && refused.Err == nil:
		x.refuse(m.problem(ResultBodyTooLarge), err)
	case key.Attempts == 0 && errors.Is(err, redisidem.ErrInvalid):
		x.fail(err, false)
	case errors.Is(err, redisidem.ErrFenced), errors.Is(err, redisidem.ErrFingerprintMismatch), errors.Is(err, redisidem.ErrLocked),
		errors.Is(err, redisidem.ErrNested), errors.Is(err, redisidem.ErrDamaged), errors.Is(err, redisidem.ErrUnavailable),
		errors.Is(err, redisidem.ErrClosed):
		x.fail(err, false)
	case errors.Is(err, redisidem.ErrOutcomeUnknown):
		x.fail(err, true)
	default:
		x.refuseUnfinished(err)
	}
}

// refuseUnfinished answers a request whose flow stopped, and may continue with the next request.
func (x *keyedRequest) refuseUnfinished(err error) {
	x.refuse(x.middleware.problem(ResultUnfinished), err)
}

// reply answers with the response that this request has stored.
func (x *keyedRequest) reply(stored *redisidem.Response) {
	status := statusOf(stored)
	h := x.w.Header()
	for name, values := range stored.Header {
		if name = http.CanonicalHeaderKey(name); !isNeverStored(name) {
			h[name] = append([]string(nil), values...)
		}
	}
	x.observe(ResultExecuted, status, nil)
	x.w.WriteHeader(status)
	if bodyAllowed(status) {
		_, _ = x.w.Write(stored.Body) // the client may have disconnected
	}
}
