package httpidem

import (
	"errors"
	"net/http"
)

// DeniedError is an error that Config.Authorize can return to choose the status of the response,
// such as 401 or 503. Other errors are answered with 403.
type DeniedError struct {
	// Status is the status of the response. A value outside of 400 to 599 means 403. Err is the
	// reason. The observer receives it, the client does not.
	Status int
	Err    error
}

func (e *DeniedError) Error() string {
	if e.Err == nil {
		return "httpidem: the caller is not authorized: " + http.StatusText(e.Status)
	}
	return "httpidem: the caller is not authorized: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *DeniedError) Unwrap() error { return e.Err }

// authorized reports whether Config.Authorize accepts the caller. If not, it refuses the request.
func (x *keyedRequest) authorized() bool {
	m := x.middleware
	if m.cfg.Authorize == nil {
		return true
	}
	err := m.cfg.Authorize(x.r)
	if err != nil {
		p := m.problem(ResultNotAllowed)
		if denied, ok := errors.AsType[*DeniedError](err); ok && denied.Status >= 400 && denied.Status <= 599 {
			p.Status = denied.Status
		}
		x.refuse(p, err)
	}
	return err == nil
}
