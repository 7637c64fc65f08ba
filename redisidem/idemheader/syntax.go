package idemheader

import (
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Parse returns the key from the values of its header field, one value per line of the request.
//
// A key is an RFC 8941 Item whose value is a String. A String is text in double quotes, of the
// characters space to tilde. In it, a backslash may stand only before a double quote or another
// backslash. Parameters after the string are ignored.
//
// Unless strict is set, a value without quotes is accepted too. All its characters must be visible
// ASCII, without double quotes, backslashes, commas and semicolons, which other readers could
// interpret. The values abc and "abc" are then the same key.
//
// Every other value is a [*SyntaxError]. More than one line is refused, since an Item is not a
// list. An empty or blank key is refused, since a client that sends one expects to be protected.
func Parse(lines []string, strict bool) (string, error) {
	if len(lines) != 1 {
		return "", &SyntaxError{Reason: fmt.Sprintf("must be one line, not %d", len(lines))}
	}
	// HTTP allows tabs around a value; structured fields do not.
	text := strings.Trim(lines[0], " \t")
	var key string
	switch {
	case isPlain(text):
		key = text[1 : len(text)-1]
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

// IsQuoted reports whether a value of the header field has its key in double quotes.
func IsQuoted(value string) bool { return strings.HasPrefix(strings.TrimLeft(value, " \t"), `"`) }

// Format returns a key as the value of its header field, an RFC 8941 String. A key with characters
// that this form cannot carry is a [*SyntaxError].
func Format(key string) (string, error) {
	if text := `"` + key + `"`; isPlain(text) {
		return text, nil
	}
	text, err := httpsfv.Marshal(httpsfv.NewItem(key))
	if err != nil {
		return "", &SyntaxError{Reason: "has characters that a header field cannot carry"}
	}
	return text, nil
}

// isPlain reports whether text is an RFC 8941 String without an escape and without parameters, as
// almost all are. Its content is the text between the quotes.
func isPlain(text string) bool {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return false
	}
	for i := 1; i < len(text)-1; i++ {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// SyntaxError reports why a header field does not hold a usable key. Its text never contains the
// key.
type SyntaxError struct {
	// Reason is what is wrong with the key, such as "must not be empty". Servers show it to
	// clients.
	Reason string
}

func (e *SyntaxError) Error() string { return "idemheader: the key " + e.Reason }
