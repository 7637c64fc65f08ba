package protocol

import (
	"strconv"
	"strings"
)

// Version is the schema version of the records that the scripts write. Readers accept no other.
const Version = "2"

// Request is what a record's field request has: whose record it is, and the first request.
type Request struct {
	Scope, Value, Method, Path string
}

// FormatRequest returns the field request of a record: the lengths of scope, key and method, and
// all four parts, separated by spaces. It is one field, because it never changes and each field
// costs the server as much as a word of the call and one in the record.
func FormatRequest(scope, value, method, path string) string {
	var space [256]byte
	b := space[:0]
	for _, part := range []string{scope, value, method} {
		b = append(strconv.AppendInt(b, int64(len(part)), 10), ' ')
	}
	for _, part := range []string{scope, value, method} {
		b = append(append(b, part...), ' ')
	}
	return string(append(b, path...))
}

// ParseRequest reads the field request of a record. It reports false for a text that is not one.
func ParseRequest(s string) (r Request, ok bool) {
	var lengths [3]int
	for i := range lengths {
		var word string
		word, s, ok = strings.Cut(s, " ")
		n, err := strconv.Atoi(word)
		if !ok || err != nil || n < 0 || strconv.Itoa(n) != word {
			return Request{}, false
		}
		lengths[i] = n
	}
	for i, part := range []*string{&r.Scope, &r.Value, &r.Method} {
		n := lengths[i]
		if n >= len(s) || s[n] != ' ' {
			return Request{}, false
		}
		*part, s = s[:n], s[n+1:]
	}
	r.Path = s
	return r, true
}
