package httpidem

import (
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/canonicaljson"
)

// CanonicalJSON is a [FingerprintFunc] that compares JSON bodies without white space and without
// the order of fields, together with the query and the media type. Numbers are compared as they are
// written, so 1 and 1.0 differ. A body that is not one JSON document, has a field twice, is nested
// deeper than 100 or is not UTF-8 is compared with all its bytes, as [WholeRequest] does.
func CanonicalJSON(d *Digest, r *http.Request, body *Body) error {
	text, err := body.Bytes()
	if err != nil {
		return err
	}
	document, err := canonicaljson.Decode(text)
	if err != nil {
		d.Text("body")
		return WholeRequest(d, r, body)
	}
	d.Text("json")
	d.Text(query(r))
	d.Text(mediaType(r.Header.Get("Content-Type")))
	d.Bytes(canonicaljson.Append(nil, document))
	return nil
}

// JSONFieldsExcept returns a [FingerprintFunc] that compares a JSON object as [CanonicalJSON] does,
// without the named fields: those that differ between retries, such as the time of sending. Names
// are as in [JSONFields], and do not go into arrays. Any other body is compared as by
// [CanonicalJSON]. JSONFieldsExcept panics with the error of [CheckJSONFields] if a name is
// invalid.
func JSONFieldsExcept(names ...string) FingerprintFunc {
	if err := CheckJSONFields(names...); err != nil {
		panic(err)
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return func(d *Digest, r *http.Request, body *Body) error {
		text, err := body.Bytes()
		if err != nil {
			return err
		}
		document, err := decodeObject(text)
		if err != nil {
			return CanonicalJSON(d, r, body)
		}
		d.Text("except")
		d.Text(query(r))
		d.Text(mediaType(r.Header.Get("Content-Type")))
		for _, name := range names {
			d.Text(name)
			document.remove(strings.Split(name, "."))
		}
		d.Bytes(canonicaljson.Append(nil, map[string]any(document)))
		return nil
	}
}

// remove removes a field, if the object has it.
func (o object) remove(path []string) {
	last := len(path) - 1
	for _, name := range path[:last] {
		o, _ = o[name].(map[string]any)
	}
	delete(o, path[last]) // of a nil map, too
}
