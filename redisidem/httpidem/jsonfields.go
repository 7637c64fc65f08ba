package httpidem

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/canonicaljson"
)

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
	return func(d *Digest, r *http.Request, body *Body) error {
		text, err := body.Bytes()
		if err != nil {
			return err
		}
		document, err := decodeObject(text)
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
				d.Bytes(canonicaljson.Append(nil, value))
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
		case canonicaljson.Readable(name) != nil:
			return invalid("JSONFields", "has a name that is not UTF-8: %q", name)
		}
	}
	return nil
}

// object is a decoded JSON object; see [canonicaljson.Decode].
type object map[string]any

func (o object) lookUp(path []string) (value any, ok bool) {
	value = map[string]any(o)
	for _, name := range path {
		inner, isObject := value.(map[string]any)
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
		o, _ = o[want].(map[string]any)
	}
	return false
}

var errNoObject = errors.New("not a JSON object")

// decodeObject decodes a body that is exactly one JSON object.
func decodeObject(body []byte) (object, error) {
	value, err := canonicaljson.Decode(body)
	if err != nil {
		return nil, err
	}
	if o, ok := value.(map[string]any); ok {
		return o, nil
	}
	return nil, errNoObject
}
