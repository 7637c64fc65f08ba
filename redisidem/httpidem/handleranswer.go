package httpidem

import (
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// answer writes the response, given the result of the service.
func (e *handlerRun) answer(key *redisidem.Key, err error) {
	switch {
	case e.capture == nil && err == nil && key.Answered() && key.Response.IsZero():
		e.refuseGone(0, nil) // an operator has settled the key without an answer
	case e.capture == nil && err == nil && key.Answered():
		e.replay(key.Response)
	case e.capture == nil && err == nil:
		e.fail(errClientGone, false)
	case e.capture == nil && errors.Is(err, redisidem.ErrNotKept):
		e.refuseGone(0, nil)
	case e.capture == nil:
		e.withoutStore(err)
	case e.panicked:
	default:
		result, err := e.resultOfRun(key, err)
		if !e.late && !e.mayDeliver(result) {
			e.restoreHeader()
			e.fail(err, true)
			return
		}
		e.observe(result, e.status(), err)
		if !e.late {
			e.deliver()
		}
	}
}

// resultOfRun returns the result of a request whose handler ran, and the error behind it.
func (e *handlerRun) resultOfRun(key *redisidem.Key, err error) (Result, error) {
	released, isReleased := errors.AsType[*releasedError](err)
	switch {
	case e.state.nothingDone.Load():
		return ResultReleased, err
	case isReleased:
		return released.result, nil
	case err == nil && key.Response.Header[notKeptHeader] != nil:
		return ResultNotKept, nil
	case err == nil:
		return ResultExecuted, nil
	case errors.Is(err, redisidem.ErrNotKept): // a codec of the service could not store the response
		return ResultNotKept, err
	}
	return e.middleware.resultOf(err, true), err
}

// mayDeliver reports whether the handler's response is sent with this result. A response that is
// not stored, and should be, is not sent unless a part of it was sent before.
func (e *handlerRun) mayDeliver(result Result) bool {
	switch result { //nolint:exhaustive // all others settle the response
	case ResultUnacknowledged:
		return e.capture.isSent() || e.middleware.cfg.AnswerUnacknowledged
	case ResultSuperseded:
		return e.capture.isSent()
	}
	return true
}

// status returns the status of the handler's response, or 0 if code outside of the middleware
// writes it.
func (e *handlerRun) status() int {
	if e.answeredOutside() {
		return 0
	}
	return e.capture.status
}

// deliver sends the handler's response, unless it was sent before or is written outside.
func (e *handlerRun) deliver() {
	switch {
	case e.capture.isSent():
	case e.answeredOutside():
		e.setOwnFields(e.w.Header())
	default:
		e.capture.send()
	}
}
