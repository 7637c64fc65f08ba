package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// recoverPanic is deferred by handle, and does nothing if the handler has returned. Usually a panic
// continues, and the service releases the key. A retry must not run the handler again if a part of
// the response was sent, or if the policy keeps everything. Then recoverPanic finishes the key, and
// serve repeats the panic.
func (e *handlerRun) recoverPanic(returned *bool, outcome *redisidem.Outcome) {
	if *returned {
		return
	}
	e.capture.finish()
	e.restoreHeader()
	e.observe(ResultPanicked, 0, nil)
	if !e.keepsPanic() {
		return
	}
	if e.panicValue = recover(); e.panicValue != nil { // it is nil during runtime.Goexit, which cannot be stopped
		e.panicked = true
		status := 0
		if e.capture.isSent() {
			status = e.capture.status
		}
		*outcome = redisidem.Finish(notKept(status))
	}
}

// keepsPanic reports whether a panic of the handler finishes the key.
func (e *handlerRun) keepsPanic() bool {
	if e.state.outcomeUnknown.Load() && !e.capture.isSent() {
		return false
	}
	return e.middleware.cfg.Response.Status(http.StatusInternalServerError) == DispositionKeep ||
		e.capture.isSent() && (e.capture.hijacked || e.disposition() == DispositionKeep)
}
