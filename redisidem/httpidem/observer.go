package httpidem

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Event is the result of one request, for Config.Observer. It has no body, and of its key and scope
// it has only [Event.KeyID].
// ResultTimedOut has a second one: see [Middleware.TimeoutHandler].
type Event struct {
	// Result is the result of the request.
	Result Result
	// Status is the status of the response. It is 0 if the handler ran without protection, hijacked
	// the connection or panicked, and if code outside of the middleware writes the response.
	Status int
	// Err is the error behind the result, or nil. The errors of the scope function,
	// Config.Authorize and KeyConfig.Check come from the program: check what they contain before
	// you log them.
	Err error
	// Late reports that the client was answered before, with [ResultTimedOut]. Result and Status
	// are those of the handler that continued.
	Late bool

	request *keyedRequest // a pointer, so that a log of the event does not have the key; nil without a key
}

// KeyID returns the ID of the request's key, as [redisidem.Scope.ID] does, with the prefix of
// KeyConfig.Prefix. It is empty for a request without a key that can be read, and for one that was
// refused before its caller was identified. Observers that do not call it do not pay for it.
func (e Event) KeyID() string {
	if e.request == nil || e.request.scope == nil || e.request.key == "" {
		return ""
	}
	return e.request.scope.ID(e.request.key)
}

// event returns the event of a request.
func (x *keyedRequest) event(r Result, status int, err error) Event {
	return Event{Result: r, Status: status, Err: err, request: x}
}

// observe reports the result of a request to the observer.
func (x *keyedRequest) observe(r Result, status int, err error) {
	x.middleware.report(x.r.Context(), x.event(r, status, err))
}

// observe reports the result of a handler that has run.
func (e *handlerRun) observe(r Result, status int, err error) {
	event := e.event(r, status, err)
	event.Late = e.late
	e.middleware.report(e.r.Context(), event)
}

// report calls the observer. Its panic is logged and changes no response.
func (m *Middleware) report(ctx context.Context, e Event) {
	if m.cfg.Observer == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			m.service.Config().Logger.ErrorContext(
				ctx, "httpidem: the observer panicked", "result", e.Result.String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()),
			)
		}
	}()
	m.cfg.Observer(ctx, e)
}
