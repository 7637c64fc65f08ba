package redisidem

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
)

// Response is the answer of an operation. It is stored with the key and replayed, byte for byte, to
// each retry. The zero Response means no response.
type Response struct {
	// Code is the status: 100 to 599, or 0 for no status.
	Code int
	// Header has the header fields, as in net/http. It may be nil. The names and values must not
	// contain line breaks or NUL.
	Header map[string][]string
	// Body is the answer's content. Config.MaxValueBytes bounds it.
	Body []byte

	err error // why a value could not become the body
}

// JSON returns a Response with v as its JSON body and the Content-Type application/json. The commit
// of the response returns the error if v cannot be marshalled. A v without exported fields, of
// which JSON would write nothing, is an error as well.
func JSON(code int, v any) Response {
	body, err := toJSON(v)
	if err != nil {
		err = fmt.Errorf("cannot be made JSON: %w", err)
	}
	return Response{Code: code, Header: map[string][]string{"Content-Type": {"application/json"}}, Body: body, err: err}
}

// Write sends the response to an HTTP client. Its header fields replace those of w with the same
// name, and a response without a status is sent as 200. A nil or zero Response, such as that of a
// key that was finished without one, is sent as 204 No Content.
//
// It returns an [*InvalidError], before anything is sent, if the response cannot be sent: JSON
// could not make its body, its status is below 200, or a header field has a line break. Otherwise
// it returns the error of w.
func (r *Response) Write(w http.ResponseWriter) error {
	if r.IsZero() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := r.validate(math.MaxInt); err != nil {
		return err
	}
	if r.Code != 0 && r.Code < http.StatusOK {
		return invalid("Response.Code", "must be at least 200 for an HTTP client: %d", r.Code)
	}
	h := w.Header()
	for name, values := range r.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	w.WriteHeader(cmp.Or(r.Code, http.StatusOK))
	if len(r.Body) == 0 {
		return nil
	}
	_, err := w.Write(r.Body)
	return err
}

// IsZero reports whether r is nil or the zero Response, so that there is no answer to give. That is
// so for a key that was finished without a response, or whose response could not be kept.
func (r *Response) IsZero() bool {
	return r == nil || r.Code == 0 && len(r.Header) == 0 && len(r.Body) == 0 && r.err == nil
}

// clone returns a copy that shares no memory with the caller's response, because a commit may be
// sent again after the caller has continued.
func (r *Response) clone() *Response {
	c := &Response{Code: r.Code, Body: append([]byte(nil), r.Body...)}
	if len(r.Header) > 0 {
		c.Header = make(map[string][]string, len(r.Header))
		for name, values := range r.Header {
			c.Header[name] = slices.Clone(values)
		}
	}
	return c
}

func (r *Response) validate(limit int) error {
	if r.err != nil {
		return &InvalidError{Field: "Response.Body", Reason: r.err.Error(), Err: r.err}
	}
	if r.Code != 0 && (r.Code < 100 || r.Code > 599) {
		return invalid("Response.Code", "must be between 100 and 599, or 0 for none: %d", r.Code)
	}
	if err := checkSize("Response.Body", len(r.Body), limit); err != nil {
		return err
	}
	for name, values := range r.Header {
		if name == "" || strings.ContainsAny(name, ": \r\n\x00") {
			return invalid("Response.Header", "has a field name that cannot be sent: %q", name)
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return invalid("Response.Header", "has a line break or NUL in the value of %s", name)
			}
		}
	}
	return nil
}

// encodeHeader writes header fields as lines, as on the wire. JSON would change bytes that are not
// UTF-8.
func encodeHeader(h map[string][]string) []byte {
	var space [8]string
	names, n := space[:0], 0
	for name, values := range h {
		names = append(names, name)
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	slices.Sort(names)
	b := make([]byte, 0, n)
	for _, name := range names {
		for _, v := range h[name] {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return b
}

func decodeHeader(s string) (map[string][]string, error) {
	if s == "" {
		return nil, nil
	}
	h := make(map[string][]string)
	for s != "" {
		line, rest, ended := strings.Cut(s, "\r\n")
		name, value, ok := strings.Cut(line, ": ")
		if !ended || !ok || name == "" || strings.ContainsAny(line, "\r\n\x00") {
			return nil, fmt.Errorf("response_headers has a bad line")
		}
		h[name] = append(h[name], value)
		s = rest
	}
	return h, nil
}
