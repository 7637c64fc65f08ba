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
)

// newRequest returns the net/http form of a request. Everything except the body is copied, because
// Fiber reuses its memory after the request.
func newRequest(c fiber.Ctx) *http.Request {
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
		Body: &body{context: c}, RemoteAddr: c.RequestCtx().RemoteAddr().String(), TLS: c.RequestCtx().TLSConnectionState(),
	}
	for name, value := range from.Header.All() {
		r.Header.Add(string(name), string(value))
	}
	r.Header.Del("Host") // it is in r.Host
	return r.WithContext(withContext(c))
}

// body is the body of a request. Handlers can read it afterwards, unless it is a stream: see
// restoreBody.
type body struct {
	context fiber.Ctx
	reader  io.Reader // nil until it is read; most requests without a key never are
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	if b.reader == nil {
		var err error
		if b.reader, err = open(b.context); err != nil {
			return 0, err
		}
	}
	return b.reader.Read(p)
}

// Close implements [io.Closer]. It does nothing, because Fiber closes the body.
func (b *body) Close() error { return nil }

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

// restoreBody restores the body of a streamed request, if the middleware has read it.
func restoreBody(c fiber.Ctx, r *http.Request) error {
	if r.GetBody == nil {
		return nil
	}
	text, err := io.ReadAll(r.Body)
	if err == nil {
		c.Request().SetBody(text)
	}
	return err
}

// readAll reads a stream of a known size.
func readAll(r io.Reader, size int) ([]byte, error) {
	text := make([]byte, size)
	_, err := io.ReadFull(r, text)
	return text, err
}
