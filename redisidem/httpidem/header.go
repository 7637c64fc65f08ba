package httpidem

import (
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// The header fields of the middleware and of the client.
const (
	// DefaultHeader is the field that carries the key, as the draft names it.
	DefaultHeader = "Idempotency-Key"
	// ReplayedHeader is on each answer that is the answer of an earlier request, with the value true, and on no other.
	ReplayedHeader = "Idempotency-Replayed"
	// ProblemHeader is on each problem of the middleware's own, with its result as the value, as in-flight. A middleware in front that
	// finds it on an answer never stores that answer, and takes nothing else from it.
	ProblemHeader = "Idempotency-Problem"
	// RetentionHeader tells in whole seconds how long answers are kept, where Config.PublishRetention says so.
	RetentionHeader = "Idempotency-Retention"
)

// ParseKey reads the key out of the values of its header field, one for each line.
//
// A key is an RFC 8941 Item whose value is a String: the text within double quotes, of the characters space to tilde, in which
// a backslash may stand before a double quote or another backslash only. Parameters behind it are ignored. Unless strict is
// set, a value without quotes is taken as it is, too, if all its characters are visible ASCII and none is a double quote, a
// backslash, a comma or a semicolon, since those would mean something else with another reader: abc and "abc" are then the
// same key.
//
// Everything else is a [*SyntaxError], also an empty key and one of blanks only, since a client that sends one meant to be
// protected. More than one line is none of these either: an Item is no list.
func ParseKey(lines []string, strict bool) (string, error) {
	if len(lines) != 1 {
		return "", &SyntaxError{Reason: fmt.Sprintf("must be one line, not %d", len(lines))}
	}
	// Tabs around a value belong to HTTP's white space, though not to that of structured fields.
	text := strings.Trim(lines[0], " \t")
	var key string
	switch {
	case strings.HasPrefix(text, `"`), strict:
		item, err := httpsfv.UnmarshalItem([]string{text})
		if err != nil {
			return "", &SyntaxError{Reason: "must be a string in double quotes, as RFC 8941 defines it"}
		}
		value, ok := item.Value.(string)
		if !ok {
			return "", &SyntaxError{Reason: "must be a string in double quotes, not another kind of value"}
		}
		key = value
	default:
		for i := range len(text) {
			if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"\\,;", c) >= 0 {
				return "", &SyntaxError{Reason: "must be in double quotes, since it has characters that need them"}
			}
		}
		key = text
	}
	if strings.Trim(key, " ") == "" {
		return "", &SyntaxError{Reason: "must not be empty"}
	}
	return key, nil
}

// quoted reports whether the value of a header field that ParseKey has accepted has quotes.
func quoted(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " \t"), `"`) }

// FormatKey writes a key as the value of its header field: an RFC 8941 String. A key with characters that this form does not
// have is a [*SyntaxError].
func FormatKey(key string) (string, error) {
	text, err := httpsfv.Marshal(httpsfv.NewItem(key))
	if err != nil {
		return "", &SyntaxError{Reason: "has characters that a header field cannot carry"}
	}
	return text, nil
}

// SyntaxError tells why a header field holds no key. It never repeats what it holds.
type SyntaxError struct {
	// Reason says what is wrong, to follow the name of the field.
	Reason string
}

func (e *SyntaxError) Error() string { return "httpidem: the key " + e.Reason }

// addToList adds names to a header field that is a list, unless they are in it already, and leaves what others put there.
func addToList(h map[string][]string, field string, names ...string) {
	for _, name := range names {
		if !inList(h[field], name) {
			h[field] = append(h[field], name)
		}
	}
}

// inList reports whether a list, given as the values of a header field, has a name. An asterisk is no wildcard everywhere, so it is
// none here.
func inList(lines []string, name string) bool {
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(entry, " \t"), name) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s can be the name of a header field.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
