package httpidem

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// errBodyTooLarge reports a request body that is larger than Config.MaxBodyBytes.
var errBodyTooLarge = errors.New("httpidem: request body over Config.MaxBodyBytes")

// readBody returns the whole body of a request, or errBodyTooLarge. It never returns a part of a
// body: two requests with the same beginning would get the same fingerprint.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, errBodyTooLarge // before the client has sent it, if it expects 100-continue
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge || err == nil && n > limit {
		return nil, errBodyTooLarge
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
		result := ResultBodyUnreadable
		if errors.Is(err, errBodyTooLarge) {
			result = ResultBodyTooLarge
		}
		m.refuse(x.w, x.r, m.problem(result), err)
	}
	return err == nil
}
