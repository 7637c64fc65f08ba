package httpidem

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxJSONDepth limits the nesting of a document whose fields are read.
const maxJSONDepth = 100

// JSONFields returns a [FingerprintFunc] that compares only the named fields of a JSON object,
// together with the query and the media type. It is for clients whose retries differ in fields that
// do not matter, such as the time of sending. A name is a field, or a path with dots: amount,
// customer.id. JSONFields panics with the error of [CheckJSONFields] if a name is invalid.
//
// White space and the order of fields do not matter. Numbers are compared as they are written, so 1
// and 1.0 differ. A missing field differs from every value. The following bodies are compared with
// all their bytes, as [WholeRequest] does:
//
//   - a body with none of the named fields
//   - a body that is not exactly one JSON object, or is not UTF-8
//   - an object that is nested deeper than 100, or that has a field twice
//   - an object with a named field in other letters (Amount), which many decoders accept
func JSONFields(names ...string) FingerprintFunc {
	if err := CheckJSONFields(names...); err != nil {
		panic(err)
	}
	paths := make([][]string, 0, len(names))
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		paths = append(paths, strings.Split(name, "."))
	}
	return func(d *Digest, r *http.Request, body []byte) error {
		document, err := decodeObject(body)
		if err != nil || !slices.ContainsFunc(paths, document.has) || slices.ContainsFunc(paths, document.misspells) {
			d.Text("body")
			return WholeRequest(d, r, body)
		}
		d.Text("fields")
		d.Text(query(r))
		d.Text(mediaType(r.Header.Get("Content-Type")))
		for _, p := range paths {
			d.Text(strings.Join(p, "."))
			if value, ok := document.lookUp(p); ok {
				d.Bytes(canonical(nil, value))
			} else {
				d.Text("absent") // it is not JSON, so it differs from every value
			}
		}
		return nil
	}
}

// CheckJSONFields returns a [*redisidem.InvalidError] for the first name that [JSONFields] does not
// accept. These are names that begin with a slash, as in a JSON pointer, that have an empty part
// between dots, or that are not UTF-8. Use it for names from outside of the program.
func CheckJSONFields(names ...string) error {
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "/"):
			return invalid("JSONFields", "has a name with a slash in front, instead of dots between its parts: %q", name)
		case slices.Contains(strings.Split(name, "."), ""):
			return invalid("JSONFields", "has a name with an empty part: %q", name)
		case readable(name) != nil:
			return invalid("JSONFields", "has a name that is not UTF-8: %q", name)
		}
	}
	return nil
}

// object is a decoded JSON object. Its values are objects, []any, string, json.Number, bool and
// nil.
type object map[string]any

func (o object) lookUp(path []string) (value any, ok bool) {
	value = o
	for _, name := range path {
		inner, isObject := value.(object)
		if !isObject {
			return nil, false
		}
		if value, ok = inner[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

func (o object) has(path []string) bool {
	_, ok := o.lookUp(path)
	return ok
}

// misspells reports whether an object on the path has a field that differs from the path only in
// case.
func (o object) misspells(path []string) bool {
	for _, want := range path {
		for name := range o {
			if name != want && strings.EqualFold(name, want) {
				return true
			}
		}
		o, _ = o[want].(object)
	}
	return false
}

var errNoObject = errors.New("not one JSON object without repeated names")

// decodeObject decodes a body that is exactly one JSON object. Unlike encoding/json it refuses
// repeated names, since two decoders may choose different values.
func decodeObject(body []byte) (object, error) {
	value, err := decodeDocument(body)
	if err != nil {
		return nil, err
	}
	if o, ok := value.(object); ok {
		return o, nil
	}
	return nil, errNoObject
}

// decodeDocument decodes a body that is exactly one JSON document, as decodeObject does.
func decodeDocument(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return value, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, readable(token)
	}
	depth++
	if depth > maxJSONDepth {
		return nil, errNoObject
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			value, err := decodeValue(d, depth)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := d.Token()
		return list, err
	}
	o := object{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if _, twice := o[name]; twice || !ok || readable(name) != nil {
			return nil, errNoObject
		}
		if o[name], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return o, err
}

// readable refuses a string with the replacement character, which the decoder puts in place of
// invalid bytes. Different texts would become the same.
func readable(token json.Token) error {
	if s, ok := token.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		return errNoObject
	}
	return nil
}

// canonical appends a decoded value as JSON with sorted names and without white space.
func canonical(b []byte, value any) []byte {
	switch v := value.(type) {
	case object:
		b = append(b, '{')
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(canonical(b, name), ':')
			b = canonical(b, v[name])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, entry := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = canonical(b, entry)
		}
		return append(b, ']')
	case json.Number:
		return append(b, v...)
	default: // string, bool and nil cannot fail
		text, _ := json.Marshal(v)
		return append(b, text...)
	}
}
