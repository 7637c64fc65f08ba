package httpidem

import (
	"errors"

	"github.com/redisidem/redisidem/redisidem"
)

// fail answers a request for which the service returned an error. ran is whether the handler ran.
func (x *keyedRequest) fail(err error, ran bool) {
	m := x.middleware
	err = x.nested(err)
	x.refuse(m.problem(m.resultOf(err, ran)), err)
}

// resultOf returns the result of a request for which the service returned an error.
func (m *Middleware) resultOf(err error, ran bool) Result {
	switch {
	case errors.Is(err, redisidem.ErrFenced):
		return ResultSuperseded
	case ran:
		return ResultUnacknowledged
	case isSpoolError(err): // from one of Config.OtherFingerprints
		return ResultSpoolUnavailable
	case errors.Is(err, redisidem.ErrFingerprintMismatch):
		return ResultMismatch
	case errors.Is(err, redisidem.ErrLocked):
		return ResultInFlight
	case errors.Is(err, redisidem.ErrNested), errors.Is(err, redisidem.ErrDamaged), errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrOtherFlow):
		return ResultFailed
	}
	return ResultUnavailable
}
