package fiberidem

import (
	"bytes"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"
)

// newRequest returns the net/http form of a request. Everything except the body is copied, because
// Fiber reuses its memory after the request.
func newRequest(c fiber.Ctx, b *body) *http.Request {
	from := c.Request()
	target := string(from.Header.RequestURI()) // as it was sent; the URI of the Request is normalized
	u, err := url.ParseRequestURI(target)
	if err != nil {
		u = &url.URL{Path: target} // every target that Fiber accepts is accepted, and different targets stay different
	}
	r := &http.Request{
		Method: string(from.Header.Method()), URL: u, RequestURI: target,
		Proto: string(from.Header.Protocol()), ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Host: string(from.Host()), ContentLength: int64(max(from.Header.ContentLength(), -1)),
		Body: b, RemoteAddr: c.RequestCtx().RemoteAddr().String(), TLS: c.RequestCtx().TLSConnectionState(),
	}
	for name, value := range from.Header.All() {
		r.Header.Add(string(name), string(value))
	}
	r.Header.Del("Host") // it is in r.Host
	return r.WithContext(withContext(c))
}

// body is the body of a request as the middleware reads it.
type body struct {
	context fiber.Ctx
	reader  io.Reader                     // nil until it is read; most requests without a key never are
	ended   bool                          // it was read to its end
	passed  bool                          // the handlers have got it, as a new stream if the middleware has read it
	again   func() (io.ReadCloser, error) // returns the body once more; nil if it was too large
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.reader == nil {
		var err error
		if b.reader, err = open(b.context); err != nil {
			return 0, err
		}
	}
	n, err := b.reader.Read(p)
	b.ended = b.ended || err == io.EOF //nolint:errorlint // a reader returns it as it is
	return n, err
}

// Close implements [io.Closer]. It does nothing, because Fiber closes the body.
func (b *body) Close() error { return nil }

// pass makes a stream that the middleware has read a whole stream again, for the handlers. Fiber
// holds any other body in memory, where it stays. r is the request that the middleware passed on.
func (b *body) pass(r *http.Request) {
	b.passed, b.again = true, r.GetBody
	request := b.context.Request()
	if b.reader == nil || !request.IsBodyStream() {
		return
	}
	if !b.ended {
		detachStream(request) // r.Body continues with it
	}
	request.SetBodyStream(r.Body, request.Header.ContentLength())
}

// finish removes a stream that must not be read any more. If a middleware in front read a stream
// that has ended again, fasthttp would look for another chunk behind the last one, and wait for the
// next request. If it read one whose file was removed, its body would be the text of an error.
//
// A stream that has not ended ends the connection. fasthttp would take its rest for the next
// request.
func (b *body) finish() {
	request := b.context.Request()
	if !request.IsBodyStream() {
		return
	}
	ours := !b.passed || b.reader != nil // else the handlers have the stream as it came
	if ours && !b.ended && request.Header.ContentLength() != 0 {
		b.context.Response().SetConnectionClose()
	}
	if b.reader != nil && (!b.ended || !b.passed || !b.kept()) {
		request.ResetBody()
	}
}

// kept reports whether the body can still be read. The middleware has removed those in files.
func (b *body) kept() bool {
	if b.again == nil { // it was too large, and the handlers have read it
		return true
	}
	whole, err := b.again()
	if err != nil {
		return false
	}
	_, err = whole.Read(make([]byte, 1))
	return err == nil || err == io.EOF //nolint:errorlint // a reader returns it as it is
}

// detachStream removes the stream of a request, and everything else stays. All methods of a Request
// that set or reset its body also return the stream to a pool, where it cannot be read any more.
func detachStream(request *fasthttp.Request) {
	var kept fasthttp.Request
	request.CopyTo(&kept) // without the stream and the user values
	request.VisitUserValuesAll(kept.SetUserValue)
	*request = fasthttp.Request{}
	kept.CopyTo(request)
	kept.VisitUserValuesAll(request.SetUserValue) // those of c.Locals and c.SetContext
}

func open(c fiber.Ctx) (io.Reader, error) {
	from := c.Request()
	if from.IsBodyStream() {
		return from.BodyStream(), nil
	}
	// Fiber has parsed a form of known length, and would write its parts in a random order.
	boundary := from.Header.MultipartFormBoundary()
	if len(boundary) > 0 && from.Header.ContentLength() > 0 && len(from.Header.ContentEncoding()) == 0 &&
		!c.App().Config().DisablePreParseMultipartForm {
		form, err := from.MultipartForm()
		if err != nil {
			return nil, err
		}
		text, err := formBody(form, string(boundary))
		return bytes.NewReader(text), err
	}
	return bytes.NewReader(from.Body()), nil
}

// formBody writes a form as a body. Equal forms give equal bodies.
func formBody(form *multipart.Form, boundary string) ([]byte, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(form.Value)) {
		for _, value := range form.Value[name] {
			if err := w.WriteField(name, value); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(form.File)) {
		for _, file := range form.File[name] {
			part, err := w.CreatePart(file.Header)
			if err != nil {
				return nil, err
			}
			from, err := file.Open()
			if err != nil {
				return nil, err
			}
			_, err = io.Copy(part, from)
			_ = from.Close() // it was only read
			if err != nil {
				return nil, err
			}
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// readAll reads a stream of a known size.
func readAll(r io.Reader, size int) ([]byte, error) {
	text := make([]byte, size)
	_, err := io.ReadFull(r, text)
	return text, err
}
