package httpidem

import (
	"net/http"
	"slices"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// WithHeaders returns a [FingerprintFunc] that adds the values of header fields to what another one
// adds: fields that change the meaning of a request, such as the version of the API. A missing
// field differs from an empty one, and the case of names does not matter. WithHeaders panics with
// the error of [CheckHeaderNames] if a name is invalid.
func WithHeaders(f FingerprintFunc, names ...string) FingerprintFunc {
	if err := CheckHeaderNames(names...); err != nil {
		panic(err)
	}
	fields := make([]string, len(names))
	for i, name := range names {
		fields[i] = http.CanonicalHeaderKey(name)
	}
	slices.Sort(fields)
	fields = slices.Compact(fields)
	return func(d *Digest, r *http.Request, body *Body) error {
		d.Text("headers")
		d.length(len(fields))
		for _, name := range fields {
			d.Text(name)
			values := r.Header[name]
			d.length(len(values))
			for _, value := range values {
				d.Text(value)
			}
		}
		return f(d, r, body)
	}
}

// CheckHeaderNames returns a [*redisidem.InvalidError] for the first name that [WithHeaders] does
// not accept: one that is not the name of a header field, of a field that the server removes, such
// as Host, and of one with credentials. Use it for names from outside of the program.
func CheckHeaderNames(names ...string) error {
	for _, name := range names {
		switch {
		case !httptoken.Valid(name):
			return invalid("WithHeaders", "has a name that is not that of a header field: %q", name)
		case unusable(name):
			return invalid("WithHeaders", "has a field that handlers do not see, or that holds credentials: %q", name)
		}
	}
	return nil
}
