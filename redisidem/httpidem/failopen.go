package httpidem

import (
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// failsOpen reports whether a request runs without protection because of an error of the store.
func (x *keyedRequest) failsOpen(err error) bool {
	return x.middleware.cfg.FailOpen && errors.Is(err, redisidem.ErrUnavailable) && x.r.Context().Err() == nil
}

// withoutStore answers a request whose handler has not run because of err. With Config.FailOpen it
// runs the handler without protection.
func (e *handlerRun) withoutStore(err error) {
	m := e.middleware
	if !e.failsOpen(err) {
		e.fail(err, false)
		return
	}
	e.observe(ResultOpened, 0, err)
	r := e.r.WithContext(e.state.newContext(e.r.Context(), m))
	e.replayed.restore(r, e.body)
	// The zero limit holds nothing back: capture only sets the header fields.
	e.startCapture(0, true)
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
