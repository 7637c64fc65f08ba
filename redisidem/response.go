package redisidem

import (
	"fmt"
	"slices"
	"strings"
)

// Response is the answer of an operation, kept with its key and given again, byte for byte, to each
// retry. The zero Response means no response.
type Response struct {
	// Code is the status: 100 to 599, or 0 for none.
	Code int
	// Header holds header fields, as in net/http. May be nil.
	Header map[string][]string
	// Body is the answer's bytes.
	Body []byte

	err error // why JSON could not make the body
}

// JSON returns a Response with v as its JSON body and the matching Content-Type. A v that cannot be
// marshalled, or of which JSON writes nothing since it has only unexported fields, is reported when
// the response is committed.
func JSON(code int, v any) Response {
	body, err := toJSON(v)
	return Response{Code: code, Header: map[string][]string{"Content-Type": {"application/json"}}, Body: body, err: err}
}

// empty reports whether r is no response at all.
func (r *Response) empty() bool {
	return r == nil || r.Code == 0 && len(r.Header) == 0 && len(r.Body) == 0 && r.err == nil
}

// clone returns a copy that shares nothing with the caller's: a commit may be sent again after the
// caller has gone on.
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
		return &InvalidError{Field: "Response.Body", Reason: "cannot be made JSON: " + r.err.Error(), Err: r.err}
	}
	if r.Code != 0 && (r.Code < 100 || r.Code > 599) {
		return invalid("Response.Code", "must be between 100 and 599, or 0 for none: %d", r.Code)
	}
	if len(r.Body) > limit {
		return invalid("Response.Body", "is %d bytes long, more than MaxValueBytes (%d)", len(r.Body), limit)
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

// encodeHeader writes header fields as lines, as on the wire: JSON would change bytes that are not
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
