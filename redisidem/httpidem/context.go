package httpidem

import (
	"context"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem"
)

type handlerStateContext struct{}

// handlerState is a handler's context, with the part of it that belongs to the middleware.
type handlerState struct {
	context.Context

	stage           *redisidem.Stage
	nothingDone     atomic.Bool
	outcomeUnknown  atomic.Bool
	answeredOutside atomic.Bool // code outside of the middleware writes the response

	position string        // the source position of the call of New
	outer    *handlerState // the state of the enclosing handler, or nil
}

// Stage returns the stage that the handler runs in. It has the fence of the lease, the number of
// the attempt, and keys for calls to other services. ctx is the context of the handler's request,
// or is derived from it.
//
// It returns nil if the request is not protected. Its method is not covered, or it has no key and
// needs none, or Redis was unavailable and Config.FailOpen is set.
func Stage(ctx context.Context) *redisidem.Stage {
	if r := handlerStateOf(ctx); r != nil {
		return r.stage
	}
	return nil
}

// NothingDone reports that the handler stopped before it did any work, as a proxy does that cannot
// reach its upstream. The response is sent and is not stored, even with [KeepAll]. The attempt does
// not count, so the next request does not treat it as an attempt with an unknown outcome.
//
// ctx is the context of the handler's request, or is derived from it. Outside of a protected
// request NothingDone does nothing.
func NothingDone(ctx context.Context) {
	if r := handlerStateOf(ctx); r != nil {
		r.nothingDone.Store(true)
	}
}

// OutcomeUnknown reports that the handler started work and does not know whether it was done, as a
// proxy does whose upstream broke off. The response is sent and is not stored, even with [KeepAll].
// The next request runs the handler again, with a higher attempt number. If a part of the response
// was sent before, because it was flushed, the status policy decides as usual.
//
// ctx is the context of the handler's request, or is derived from it. Outside of a protected
// request OutcomeUnknown does nothing.
func OutcomeUnknown(ctx context.Context) {
	if r := handlerStateOf(ctx); r != nil {
		r.outcomeUnknown.Store(true)
	}
}

// AnsweredOutside reports that code outside of the middleware will write the response, as a
// framework does for the error of a handler. It is for adapters. The middleware then sends nothing
// and leaves the header as the handler made it.
//
// The response is not stored, and a retry runs the handler again. If Config.Response.Status keeps
// 500, the key is finished instead, and retries are answered with [ResultGone]. AnsweredOutside
// does nothing if a part of the response was sent before.
//
// ctx is the context of the handler's request, or is derived from it. The request may also run
// unprotected because of Config.FailOpen.
func AnsweredOutside(ctx context.Context) {
	if r := handlerStateOf(ctx); r != nil {
		r.answeredOutside.Store(true)
	}
}

// newContext returns the context for a handler that m runs.
func (r *handlerState) newContext(ctx context.Context, m *Middleware) context.Context {
	r.Context, r.position, r.outer = ctx, m.position, handlerStateOf(ctx)
	return r
}

// Value implements [context.Context].
func (r *handlerState) Value(key any) any {
	if key == (handlerStateContext{}) {
		return r
	}
	return r.Context.Value(key)
}

// handlerStateOf returns the state of the innermost handler that ctx belongs to, or nil.
func handlerStateOf(ctx context.Context) *handlerState {
	r, _ := ctx.Value(handlerStateContext{}).(*handlerState)
	return r
}
