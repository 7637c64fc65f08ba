package httpidem

import (
	"errors"
	"net/http"
)

// DeniedError is for a Config.Authorize to return when another answer than 403 is to be given, such
// as 401 or 503.
type DeniedError struct {
	// Status is the answer's; one that is not from 400 to 599 is 403. Err is why; only the observer
	// receives it.
	Status int
	Err    error
}

func (e *DeniedError) Error() string {
	if e.Err == nil {
		return "httpidem: the caller may not do this: " + http.StatusText(e.Status)
	}
	return "httpidem: the caller may not do this: " + e.Err.Error()
}

// Unwrap returns why.
func (e *DeniedError) Unwrap() error { return e.Err }

// authorized asks whether the caller may do this now. If not, it refuses the request.
func (x *keyedRequest) authorized() bool {
	m := x.middleware
	if m.cfg.Authorize == nil {
		return true
	}
	err := m.cfg.Authorize(x.r)
	if err != nil {
		p := m.problem(ResultNotAllowed)
		if denied := (*DeniedError)(nil); errors.As(err, &denied) && denied.Status >= 400 && denied.Status <= 599 {
			p.Status = denied.Status
		}
		m.refuse(x.w, x.r, p, err)
	}
	return err == nil
}
