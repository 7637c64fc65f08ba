package httpidem

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// bodyTooLargeError reports a request body that is larger than Config.MaxBodyBytes, or than the
// limit of an http.MaxBytesReader outside of the middleware.
type bodyTooLargeError struct{ limit int64 }

func (e *bodyTooLargeError) Error() string {
	return "httpidem: the request body is larger than " + strconv.FormatInt(e.limit, 10) + " bytes"
}

// mostReserved bounds the memory that a declared length reserves before the client has sent the
// body.
const mostReserved = 1 << 20

// readBody returns the whole body of a request, or a [*bodyTooLargeError]. It never returns a part
// of a body: two requests with the same beginning would get the same fingerprint.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, &bodyTooLargeError{limit} // before the client has sent it, if it expects 100-continue
	}
	size := int64(bytes.MinRead)
	if r.ContentLength >= 0 {
		size = min(r.ContentLength, mostReserved) + 1 // the last byte is for the end
	}
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, bytes.MinRead)
		}
		free := body[len(body):min(int64(cap(body)), limit+1)]
		n, err := r.Body.Read(free)
		body = body[:len(body)+n]
		outer, tooLarge := errors.AsType[*http.MaxBytesError](err)
		switch {
		case tooLarge:
			return nil, &bodyTooLargeError{outer.Limit}
		case err != nil && err != io.EOF: //nolint:errorlint // a reader returns it as it is
			return nil, err
		case int64(len(body)) > limit:
			return nil, &bodyTooLargeError{limit}
		case err != nil:
			return body, nil
		}
	}
}

// replayedBody is a request body that was read and can be read again.
type replayedBody struct {
	bytes    []byte
	reader   bytes.Reader
	original io.Closer
}

// Read implements [io.Reader].
func (b *replayedBody) Read(p []byte) (int, error) { return b.reader.Read(p) }

// WriteTo implements [io.WriterTo].
func (b *replayedBody) WriteTo(w io.Writer) (int64, error) { return b.reader.WriteTo(w) }

// Close implements [io.Closer].
func (b *replayedBody) Close() error { return b.original.Close() }

// again returns another reader of the body.
func (b *replayedBody) again() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b.bytes)), nil
}

// restore makes the body that readBody has read readable again, through r.Body and r.GetBody.
func (b *replayedBody) restore(r *http.Request, body []byte) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b.bytes, b.original = body, r.Body
	b.reader.Reset(body)
	r.Body, r.GetBody = b, b.again
}

// readBody reads the body, unless that was done before. If it fails, it refuses the request and
// reports false.
func (x *keyedRequest) readBody() (ok bool) {
	if x.hasBody {
		return true
	}
	var err error
	if x.body, err = readBody(x.r, x.middleware.cfg.MaxBodyBytes); err != nil {
		x.middleware.refuseBody(x.w, x.r, err)
	}
	x.hasBody = err == nil
	return x.hasBody
}

// refuseBody answers a request whose body cannot be read.
func (m *Middleware) refuseBody(w http.ResponseWriter, r *http.Request, err error) {
	p := m.problem(ResultBodyUnreadable)
	if tooLarge, ok := errors.AsType[*bodyTooLargeError](err); ok {
		p = m.problem(ResultBodyTooLarge)
		p.Detail = "Requests with an idempotency key are limited to " + strconv.FormatInt(tooLarge.limit, 10) +
			" bytes. Send a smaller body."
	}
	m.refuse(w, r, p, err)
}
