package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// releasedError makes the service release the key: the response is not stored.
type releasedError struct{ result Result }

func (e *releasedError) Error() string {
	return "httpidem: the response was not stored: " + e.result.String()
}

// Is reports an unknown outcome to the service and its observers.
func (e *releasedError) Is(target error) bool {
	return e.result == ResultOutcomeUnknown && target == redisidem.ErrOutcomeUnknown
}

// outcome returns the outcome to store for the handler's response.
func (e *handlerRun) outcome() (redisidem.Outcome, error) {
	c, m := e.capture, e.middleware
	switch {
	case e.state.nothingDone.Load():
		return redisidem.NothingDone(), nil
	case e.answeredOutside():
		if m.cfg.Response.Status(http.StatusInternalServerError) == DispositionKeep {
			return redisidem.Finish(notKept(0)), nil
		}
		return redisidem.Outcome{}, &releasedError{ResultReleased}
	case c.hijacked, c.status == http.StatusSwitchingProtocols:
		return redisidem.Finish(notKept(0)), nil
	case c.isIncomplete(e.r.Method), e.state.outcomeUnknown.Load() && !c.isSent():
		return redisidem.Outcome{}, &releasedError{ResultOutcomeUnknown}
	}
	switch e.disposition() {
	case DispositionRelease:
		return redisidem.Outcome{}, &releasedError{ResultReleased}
	case DispositionUnknown:
		return redisidem.Outcome{}, &releasedError{ResultOutcomeUnknown}
	default: // DispositionKeep, and invalid values: finished work must not run again
	}
	if c.isSent() {
		return redisidem.Finish(notKept(c.status)), nil
	}
	return redisidem.Finish(m.stored(c)), nil
}

// disposition returns what the policy does with the handler's response.
func (e *handlerRun) disposition() Disposition {
	c := e.capture
	status, header := c.status, c.header()
	if status == http.StatusOK && isGRPC(header.Get("Content-Type")) {
		status = EquivalentStatus(status, header, c.trailers())
	}
	return e.middleware.cfg.Response.Status.Of(status, header, e.state.stage.Attempt())
}

// answeredOutside reports whether code outside of the middleware writes the response.
func (e *handlerRun) answeredOutside() bool {
	return e.state.answeredOutside.Load() && !e.capture.isSent()
}
