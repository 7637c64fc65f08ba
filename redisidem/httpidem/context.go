package httpidem

import (
	"context"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem"
)

type runContext struct{}

// run is what a handler's context has about its run.
type run struct {
	stage           *redisidem.Stage
	nothingDone     atomic.Bool
	outcomeUnknown  atomic.Bool
	answeredOutside atomic.Bool // code outside of the middleware writes the response

	made  string // where in the program the middleware was made
	outer *run   // that this one is inside of
}

// Stage returns what the handler may ask about the lease it runs under: its fence, which attempt
// this is, and keys for calls to other services. It is nil when the request is not protected: its
// method is not covered, it had no key and needed none, or the store was down and Config.FailOpen
// set.
//
// ctx is the context of the handler's request, or one that descends from it.
func Stage(ctx context.Context) *redisidem.Stage {
	if r := runOf(ctx); r != nil {
		return r.stage
	}
	return nil
}

// NothingDone is for a handler that gives up before it has done anything, as a proxy that cannot
// reach the service behind it: whatever it answers is sent and, also with [KeepAll], not stored,
// and the attempt does not count, so that the handler of the next request does not take this one
// for an attempt whose outcome is unknown. Outside of a protected request it does nothing.
//
// ctx is as with [Stage].
func NothingDone(ctx context.Context) {
	if r := runOf(ctx); r != nil {
		r.nothingDone.Store(true)
	}
}

// OutcomeUnknown is for a handler that has begun and cannot tell whether the work was done, as a
// proxy whose upstream broke off: whatever it answers is sent and, also with [KeepAll], not stored,
// and the handler of the next request sees by its attempt number that this one began. An answer
// that has left already, because it was flushed, is kept as the Status of its status says. Outside
// of a protected request it does nothing.
//
// ctx is as with [Stage].
func OutcomeUnknown(ctx context.Context) {
	if r := runOf(ctx); r != nil {
		r.outcomeUnknown.Store(true)
	}
}

// AnsweredOutside is for adapters: the handler wrote no answer, and code outside of the middleware
// will, as a framework does for a handler's error. The middleware then sends nothing and leaves the
// header as the handler made it. No answer is stored: a retry runs the handler again, unless
// Config.Response.Status keeps 500, which makes retries get [ResultGone]. It does nothing when some
// of an answer has left.
//
// ctx is as with [Stage], or that of a request that runs unprotected because of Config.FailOpen.
func AnsweredOutside(ctx context.Context) {
	if r := runOf(ctx); r != nil {
		r.answeredOutside.Store(true)
	}
}

// in returns a context for the handler of a run that m begins.
func (r *run) in(ctx context.Context, m *Middleware) context.Context {
	r.made, r.outer = m.made, runOf(ctx)
	return context.WithValue(ctx, runContext{}, r)
}

// runOf returns the innermost run that a context belongs to; nil if it belongs to no run.
func runOf(ctx context.Context) *run {
	r, _ := ctx.Value(runContext{}).(*run)
	return r
}
