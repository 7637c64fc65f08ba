package httpidem

import (
	"net/http"
	"slices"
)

// headerSnapshot is a copy of a header. A small header is copied without an allocation, since there
// is one for each request.
type headerSnapshot struct {
	fields []headerField
	space  struct {
		fields [5]headerField
		values [6]string
	}
}

type headerField struct {
	name   string
	values []string
}

// take copies h into the snapshot. The snapshot must not be copied afterwards.
func (s *headerSnapshot) take(h http.Header) {
	fields, values := s.space.fields[:0], s.space.values[:0]
	for name, given := range h {
		first, last := len(values), len(values)+len(given)
		copied := given // nil stays nil
		switch {
		case given == nil:
		case last <= cap(values):
			values = append(values, given...)
			copied = values[first:last:last]
		default:
			copied = slices.Clone(given)
		}
		fields = append(fields, headerField{name, copied})
	}
	s.fields = fields
}

// get returns the values of a field by its exact name.
func (s *headerSnapshot) get(name string) []string {
	for i := range s.fields {
		if s.fields[i].name == name {
			return s.fields[i].values
		}
	}
	return nil
}

// equal reports whether h has exactly the fields of the snapshot.
func (s *headerSnapshot) equal(h http.Header) bool {
	if len(h) != len(s.fields) {
		return false
	}
	for i := range s.fields {
		f := &s.fields[i]
		if values, ok := h[f.name]; !ok || (values == nil) != (f.values == nil) || !slices.Equal(values, f.values) {
			return false
		}
	}
	return true
}

// header returns the snapshot as a new header.
func (s *headerSnapshot) header() http.Header {
	h := make(http.Header, len(s.fields))
	for i := range s.fields {
		h[s.fields[i].name] = slices.Clone(s.fields[i].values)
	}
	return h
}
