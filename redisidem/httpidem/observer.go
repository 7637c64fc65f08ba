package httpidem

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Event is the result of one request, for Config.Observer. It contains no key, scope or body.
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
}

// observe reports the result of a request to the observer.
func (m *Middleware) observe(ctx context.Context, r Result, status int, err error) {
	m.report(ctx, Event{Result: r, Status: status, Err: err})
}

// observe reports the result of a handler that has run.
func (e *handlerRun) observe(r Result, status int, err error) {
	e.middleware.report(e.r.Context(), Event{Result: r, Status: status, Err: err, Late: e.late})
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
