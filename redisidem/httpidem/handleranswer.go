package httpidem

import (
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// answer writes the response, given the result of the service.
func (e *handlerRun) answer(key *redisidem.Key, err error) {
	m, ctx := e.middleware, e.r.Context()
	released, isReleased := errors.AsType[*releasedError](err)
	switch {
	case e.capture == nil && err == nil && key.Answered():
		e.replay(key.Response)
	case e.capture == nil && err == nil:
		e.fail(errClientGone, false)
	case e.capture == nil && errors.Is(err, redisidem.ErrNotKept):
		e.replay(nil)
	case e.capture == nil:
		e.withoutStore(err)
	case e.panicked:
	case e.state.nothingDone.Load():
		m.observe(ctx, ResultReleased, e.status(), err)
		e.deliver()
	case isReleased:
		m.observe(ctx, released.result, e.status(), nil)
		e.deliver()
	case err == nil:
		result := ResultExecuted
		if key.Response == nil || key.Response.Header[notKeptHeader] != nil {
			result = ResultNotKept
		}
		m.observe(ctx, result, e.status(), nil)
		e.deliver()
	case errors.Is(err, redisidem.ErrNotKept): // a codec of the service could not store the response
		m.observe(ctx, ResultNotKept, e.status(), err)
		e.deliver()
	case e.capture.isSent(), m.cfg.AnswerUnacknowledged && m.resultOf(err, true) == ResultUnacknowledged:
		m.observe(ctx, m.resultOf(err, true), e.capture.status, err)
		e.deliver()
	default:
		e.restoreHeader()
		e.fail(err, true)
	}
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
