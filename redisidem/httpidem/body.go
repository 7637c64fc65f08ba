package httpidem

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// bodyTooLargeError reports a request body that is larger than Config.MaxBodyBytes, or than the
// limit of an http.MaxBytesReader outside of the middleware.
type bodyTooLargeError struct{ limit int64 }

func (e *bodyTooLargeError) Error() string {
	return "httpidem: the request body is larger than " + strconv.FormatInt(e.limit, 10) + " bytes"
}

// readBody returns the whole body of a request, or a [*bodyTooLargeError]. It never returns a part
// of a body: two requests with the same beginning would get the same fingerprint.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, &bodyTooLargeError{limit} // before the client has sent it, if it expects 100-continue
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	if outer, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &bodyTooLargeError{outer.Limit}
	}
	if err == nil && n > limit {
		return nil, &bodyTooLargeError{limit}
	}
	return b.Bytes(), err
}

// restoreBody makes the body that readBody has read readable again, through r.Body and r.GetBody.
func restoreBody(r *http.Request, body []byte) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	original := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), original}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
}

// read reads the body and computes the fingerprint. If it fails, it refuses the request and
// releases its slot.
func (x *keyedRequest) read() (ok bool) {
	defer func() {
		if !ok { // also after a panic in a function of the program
			x.slot.release()
		}
	}()
	m := x.middleware
	var err error
	if x.body, err = readBody(x.r, m.cfg.MaxBodyBytes); err == nil {
		err = x.fingerprint(&m.cfg.Fingerprint)
	}
	if err != nil {
		p := m.problem(ResultBodyUnreadable)
		if tooLarge, ok := errors.AsType[*bodyTooLargeError](err); ok {
			p = m.problem(ResultBodyTooLarge)
			p.Detail = "Requests with an idempotency key are limited to " + strconv.FormatInt(tooLarge.limit, 10) +
				" bytes. Send a smaller body."
		}
		m.refuse(x.w, x.r, p, err)
	}
	return err == nil
}
