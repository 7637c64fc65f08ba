// Package canonicaljson compares JSON documents by their content: without white space and without
// the order of the fields of objects. Numbers are compared as they are written, so 1 and 1.0
// differ, and large ones are not rounded.
package canonicaljson

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Form returns a document in canonical form. A text that [Decode] refuses is returned as it is. The
// result is the text itself, and not a copy, if that is canonical already.
func Form(text []byte) []byte {
	if isForm(text) {
		return text
	}
	value, err := Decode(text)
	if err != nil {
		return text
	}
	return Append(make([]byte, 0, len(text)), value)
}

// Append appends the canonical form of a decoded value: names are sorted, and there is no white
// space.
func Append(b []byte, value any) []byte {
	switch v := value.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(Append(b, name), ':')
			b = Append(b, v[name])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, entry := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = Append(b, entry)
		}
		return append(b, ']')
	case json.Number:
		return append(b, v...)
	default: // string, bool and nil cannot fail
		text, _ := json.Marshal(v)
		return append(b, text...)
	}
}

// shallow is the depth down to which isForm looks.
const shallow = 8

// isForm reports whether a text can be returned by Form as it is. It is for common documents and
// allocates nothing: it reports false for texts with escapes, with other characters than ASCII or
// with more depth, although some of them are canonical.
func isForm(text []byte) bool {
	var last [shallow][]byte // the last name in each open object; nil at its beginning, and in arrays
	var object [shallow]bool
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			depth++
			if depth == shallow {
				return false
			}
			object[depth], last[depth] = c == '{', nil
		case '}', ']':
			depth--
			if depth < 0 {
				return false
			}
		case ' ', '\t', '\r', '\n':
			return false
		case '"':
			length := plainLength(text[i+1:])
			if length < 0 {
				return false
			}
			// In an object, a string behind a brace or a comma is a name.
			if before := text[max(i-1, 0)]; object[depth] && before != ':' {
				name := text[i+1 : i+1+length]
				if before == ',' && bytes.Compare(last[depth], name) >= 0 {
					return false
				}
				last[depth] = name
			}
			i += length + 1
		}
	}
	return true
}

// plainLength returns the length of the string that begins here, behind its quote. It returns -1 if
// the string has no end, or a character that can be written in another way.
func plainLength(text []byte) int {
	for i, c := range text {
		switch {
		case c == '"':
			return i
		case c < ' ' || c >= 0x80 || c == '\\' || c == '<' || c == '>' || c == '&':
			return -1
		}
	}
	return -1
}
