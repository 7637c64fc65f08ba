package httpidem

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// Body is the body of a request that was read to its end. It is in memory, or in a file of a
// [Spool]. It can be read until the request ends, by several goroutines at once. The zero value is
// an empty body.
type Body struct {
	bytes []byte
	file  *spooledBody // nil if the body is in memory
}

// Len returns the number of bytes.
func (b *Body) Len() int64 {
	if b.file != nil {
		return b.file.size
	}
	return int64(len(b.bytes))
}

// Bytes returns the whole body, which must not be changed. A body in a file is read into memory,
// each time. Its only errors are those of reading the file: return them as they are.
func (b *Body) Bytes() ([]byte, error) {
	if b.file == nil {
		return b.bytes, nil
	}
	text := make([]byte, b.file.size)
	_, err := io.ReadFull(b.file.reader(), text)
	return text, err
}

// Reader returns a reader of the body from its beginning. A body in a file stays there.
func (b *Body) Reader() *io.SectionReader {
	if b.file == nil {
		return io.NewSectionReader(bytes.NewReader(b.bytes), 0, int64(len(b.bytes)))
	}
	return b.file.reader()
}

// bodyTooLargeError reports a request body that is larger than Config.MaxBodyBytes, or than the
// limit of an http.MaxBytesReader outside of the middleware.
type bodyTooLargeError struct {
	limit int64
	outer bool // the limit is that of the reader outside
}

func (e *bodyTooLargeError) Error() string {
	return "httpidem: the request body is larger than " + strconv.FormatInt(e.limit, 10) + " bytes"
}

// mostReserved bounds the memory that a declared length reserves before the client has sent the
// body.
const mostReserved = 1 << 20

// readBody reads the whole body of a request, to a file of the spool if it is too large for memory.
// A nil spool keeps every body in memory. With an error it returns the part that it has read, which
// must not get a fingerprint: another request may begin in the same way.
func readBody(r *http.Request, limit int64, spool *Spool) (Body, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return Body{}, nil
	}
	if r.ContentLength > limit {
		return Body{}, &bodyTooLargeError{limit: limit} // before the client has sent it, if it expects 100-continue
	}
	inMemory := limit
	if spool != nil {
		inMemory = min(limit, spool.above)
		if r.ContentLength > inMemory && !spool.hasRoom(r.ContentLength) {
			return Body{}, &spoolError{ErrSpoolFull}
		}
	}
	size := int64(bytes.MinRead)
	if r.ContentLength >= 0 {
		size = min(r.ContentLength, mostReserved, inMemory) + 1 // the last byte is for the end
	}
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, bytes.MinRead)
		}
		n, err := r.Body.Read(body[len(body):min(int64(cap(body)), inMemory+1)])
		body = body[:len(body)+n]
		switch {
		case err != nil && err != io.EOF: //nolint:errorlint // a reader returns it as it is
			return Body{bytes: body}, readError(err)
		case int64(len(body)) > limit:
			return Body{bytes: body}, &bodyTooLargeError{limit: limit}
		case int64(len(body)) > inMemory:
			file, err := spool.store(r.Body, body, limit)
			return Body{file: file}, err
		case err != nil:
			return Body{bytes: body}, nil
		}
	}
}

// readError returns the error of a client's body. The limit of a reader outside of the middleware
// is a [*bodyTooLargeError].
func readError(err error) error {
	if outer, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &bodyTooLargeError{limit: outer.Limit, outer: true}
	}
	return err
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
func (b *replayedBody) restore(r *http.Request, body Body) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
	case body.file != nil:
		r.Body = &readCloser{body.file.reader(), r.Body}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body.file.reader()), nil }
	default:
		b.bytes, b.original = body.bytes, r.Body
		b.reader.Reset(body.bytes)
		r.Body, r.GetBody = b, b.again
	}
}

// readCloser reads from one body, and closes another one.
type readCloser struct {
	io.Reader
	io.Closer
}

// readBody reads the body, unless that was done before, with or without the spool. If it fails, it
// returns the verdict about the request, which is refused or oversize.
func (x *keyedRequest) readBody(spool *Spool) verdict {
	if x.hasBody {
		return accepted
	}
	m := x.middleware
	var err error
	x.body, err = readBody(x.r, m.cfg.MaxBodyBytes, spool)
	if err == nil {
		x.hasBody = true
		return accepted
	}
	tooLarge, ok := errors.AsType[*bodyTooLargeError](err)
	if ok && !tooLarge.outer && m.cfg.PassTooLarge && !x.flow && x.key != "" { // else it may be in the body
		return x.passTooLarge(err)
	}
	x.refuseBody(err)
	return refused
}

// refuseBody answers a request whose body cannot be read.
func (x *keyedRequest) refuseBody(err error) {
	m := x.middleware
	p := m.problem(ResultBodyUnreadable)
	if tooLarge, ok := errors.AsType[*bodyTooLargeError](err); ok {
		p = m.problem(ResultBodyTooLarge)
		p.Detail = "Requests with an idempotency key are limited to " + strconv.FormatInt(tooLarge.limit, 10) +
			" bytes. Send a smaller body."
	}
	if isSpoolError(err) {
		p = m.problem(ResultSpoolUnavailable)
	}
	x.refuse(p, err)
}
