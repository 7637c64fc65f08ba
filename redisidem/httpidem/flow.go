package httpidem

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem"
)

// ParamsFunc returns the part of a request that a flow's stages need, which they find in
// [redisidem.Stage.Key] as Params, also when a completer runs them: a []byte is stored as it is,
// anything else as JSON. It must hold no credentials. The body has been read and must not be
// changed. An error is answered with 400, as [ResultBodyUnreadable], and params over the service's
// MaxValueBytes with 413, as [ResultBodyTooLarge]. It is called concurrently.
type ParamsFunc func(r *http.Request, body []byte) (any, error)

// Flow returns a handler that runs a flow for each key, and writes the key's response, which is the
// flow's: whole, or the interim answer of a stage. A retry continues where an earlier request
// stopped, and gets the response once there is one. What the stages know of the request is what
// params makes of it; nil: nothing.
//
// A request needs a key: those without one are refused, whatever Config.Key says, and so are
// methods that are not covered (405). Response, AnswerUnacknowledged and FailOpen are for handlers
// and do not count here: a flow says itself what its answer is. When a stage fails, and when it is
// idle, the answer is a problem (503 and 409) that asks the client to try again.
//
// It returns a [*redisidem.InvalidError] for a nil flow, and for a Config with OtherFingerprints,
// which are for handlers, too.
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
	if !httptoken.Covers(m.cfg.Methods, r.Method) {
		m.observe(r.Context(), ResultBypassed, http.StatusMethodNotAllowed, nil)
		for _, method := range m.cfg.Methods {
			w.Header().Add("Allow", method)
		}
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	x, bypass := m.resolve(w, r)
	switch {
	case bypass:
		m.refuse(w, r, m.problem(ResultMissing), errMissing)
		return
	case x == nil:
		return
	}
	defer x.slot.release()
	x.request.Params = nil
	if params != nil {
		var err error
		if x.request.Params, err = params(r, x.body); err != nil {
			m.refuse(w, r, m.problem(ResultBodyUnreadable), err)
			return
		}
	}
	x.runFlow(flow)
}

// runFlow runs the flow, and writes what it came to.
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
			m.observe(x.r.Context(), ResultPanicked, 0, nil)
		}
	}()
	leave := x.queue() // the flow does not report when it begins
	defer leave()
	key, err := x.scope.DoFlow(ctx, x.key, x.request, flow)
	returned = true
	x.slot.made = key.Attempts == 1 && !key.Replayed()
	switch {
	case err != nil:
		x.failFlow(key, err)
	case key.Replayed():
		x.replay(key.Response)
	case key.Answered():
		x.reply(key.Response)
	default:
		p := m.problem(ResultInFlight)
		p.RetryAfter = time.Second
		m.refuse(x.w, x.r, p, nil)
	}
}

// failFlow answers a request whose flow has not come to an answer.
func (x *keyedRequest) failFlow(key *redisidem.Key, err error) {
	m := x.middleware
	refused := (*redisidem.InvalidError)(nil)
	stage, compensation := (*redisidem.StageError)(nil), (*redisidem.CompensationError)(nil)
	switch {
	case errors.As(err, &stage), errors.As(err, &compensation):
		// What else it matches may be about another key, with which the stage works.
		x.refuseUnfinished(err)
	case errors.Is(err, redisidem.ErrNotKept):
		m.refuse(x.w, x.r, m.problem(ResultGone), err)
	// Stages can return ErrInvalid, too, but before there was an attempt it is the request that the
	// store does not take.
	case key.Attempts == 0 && errors.As(err, &refused) && refused.Field == "Request.Params" && refused.Err == nil:
		m.refuse(x.w, x.r, m.problem(ResultBodyTooLarge), err)
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

// refuseUnfinished answers a request whose flow stays where it is, and may go on with the next one.
func (x *keyedRequest) refuseUnfinished(err error) {
	p := x.middleware.problem(ResultUnfinished)
	p.RetryAfter = time.Second
	x.middleware.refuse(x.w, x.r, p, err)
}

// reply answers with a response that was stored just now.
func (x *keyedRequest) reply(stored *redisidem.Response) {
	if stored == nil {
		stored = &redisidem.Response{}
	}
	status := stored.Code
	if status == 0 {
		status = http.StatusOK
	}
	h := x.w.Header()
	for name, values := range stored.Header {
		if name = http.CanonicalHeaderKey(name); !isNeverStored(name) {
			h[name] = append([]string(nil), values...)
		}
	}
	x.middleware.observe(x.r.Context(), ResultExecuted, status, nil)
	x.w.WriteHeader(status)
	if bodyAllowed(status) {
		_, _ = x.w.Write(stored.Body) // the client may have gone
	}
}
