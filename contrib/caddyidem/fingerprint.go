package caddyidem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Fingerprint says when two requests are the same. The zero value compares method, scheme, host,
// path, query, media type and the bytes of the body.
type Fingerprint struct {
	// Body is how bodies are compared: "bytes", "json" (JSON without white space and without the
	// order of fields) or "multipart" (part by part, whatever the boundary). Default: bytes.
	Body string `json:"body,omitempty"`
	// Fields are the only fields of a JSON body that count, and Except those that do not count, as
	// names or as paths with dots. Only one of them may be set, without Body or with json.
	Fields []string `json:"fields,omitempty"`
	Except []string `json:"except,omitempty"`
	// Headers are header fields that count, such as the version of the API.
	Headers []string `json:"headers,omitempty"`
	// AnyHost lets requests to different hosts be the same.
	AnyHost bool `json:"any_host,omitempty"`
}

// check reports the first field that has a wrong value.
func (f *Fingerprint) check() error {
	for _, list := range []struct {
		name string
		err  error
	}{
		{"fields", httpidem.CheckJSONFields(f.Fields...)}, {"except", httpidem.CheckJSONFields(f.Except...)}, {"headers", httpidem.CheckHeaderNames(f.Headers...)},
	} {
		if list.err != nil {
			return fmt.Errorf("fingerprint: %s: %w", list.name, list.err)
		}
	}
	switch {
	case len(f.Fields) > 0 && len(f.Except) > 0:
		return errors.New("fingerprint: except: cannot go with fields")
	case !slices.Contains([]string{"", "bytes", "json", "multipart"}, f.Body):
		return fmt.Errorf("fingerprint: body: must be bytes, json or multipart: %q", f.Body)
	case f.Body != "" && f.Body != "json" && (len(f.Fields) > 0 || len(f.Except) > 0):
		return fmt.Errorf("fingerprint: body: must be json, or left out, with fields and with except: %q", f.Body)
	}
	return nil
}

// config returns the fingerprint as the middleware has it. Its name is made of the configuration,
// so that it matches only under the configuration that it was made with.
func (f *Fingerprint) config() httpidem.Fingerprint {
	var of httpidem.FingerprintFunc
	switch {
	case len(f.Fields) > 0:
		of = httpidem.JSONFields(f.Fields...)
	case len(f.Except) > 0:
		of = httpidem.JSONFieldsExcept(f.Except...)
	case f.Body == "json":
		of = httpidem.CanonicalJSON
	case f.Body == "multipart":
		of = httpidem.MultipartParts
	default:
		of = httpidem.WholeRequest
	}
	if len(f.Headers) > 0 {
		of = httpidem.WithHeaders(of, f.Headers...)
	}
	cfg := httpidem.Fingerprint{AnyHost: f.AnyHost, Func: func(d *httpidem.Digest, r *http.Request, body *httpidem.Body) error {
		addOriginal(d, r)
		return of(d, r, body)
	}}
	if name, err := json.Marshal(f); err == nil && string(name) != "{}" { // the default has none
		cfg.Name = string(name)
	}
	return cfg
}

// addOriginal adds the request as the client sent it: handlers in front of this one may have
// rewritten it, and given two paths the same one.
func addOriginal(d *httpidem.Digest, r *http.Request) {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		d.Text(original.Method)
		d.Text(original.RequestURI)
	}
}
