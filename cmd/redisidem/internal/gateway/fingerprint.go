package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// fingerprint configures when two requests are the same. The zero value compares method, scheme,
// host, path, query, media type and the bytes of the body.
type fingerprint struct {
	Body    string   `yaml:"body" json:"body,omitempty" enum:"bytes,json,multipart" help:"How bodies are compared. bytes: byte for byte; json: JSON without white space and without the order of fields; multipart: part by part, whatever the boundary."`
	Fields  []string `yaml:"fields" json:"fields,omitempty" jsonschema:"minItems=1" help:"The only fields of a JSON body that count, as names or as paths with dots."`
	Except  []string `yaml:"except" json:"except,omitempty" jsonschema:"minItems=1" help:"The fields of a JSON body that do not count, as names or as paths with dots."`
	Headers []string `yaml:"headers" json:"headers,omitempty" jsonschema:"minItems=1" help:"Header fields that count, such as the version of the API."`
	AnyHost bool     `yaml:"any_host" json:"any_host,omitempty" help:"Whether requests to different hosts can be the same."`
}

// validate reports the first field that is invalid, as a [configfile.FieldError].
func (f *fingerprint) validate() error {
	for _, list := range []struct {
		name   string
		values []string
	}{{"fields", f.Fields}, {"except", f.Except}, {"headers", f.Headers}} {
		if list.values != nil && len(list.values) == 0 {
			return configfile.Invalid(list.name, "must not be an empty list; leave it out")
		}
	}
	if err := httpidem.CheckJSONFields(f.Fields...); err != nil {
		return configfile.Within("fields", err)
	}
	if err := httpidem.CheckJSONFields(f.Except...); err != nil {
		return configfile.Within("except", err)
	}
	if err := httpidem.CheckHeaderNames(f.Headers...); err != nil {
		return configfile.Within("headers", err)
	}
	switch {
	case f.Fields != nil && f.Except != nil:
		return configfile.Invalid("except", "cannot be combined with fields")
	case f.Body != "" && f.Body != "json" && (f.Fields != nil || f.Except != nil):
		return configfile.Invalid("body", "must be json, or left out, with fields and with except")
	}
	return nil
}

// config returns the fingerprint as the middleware has it. Its name is made of the configuration,
// so that a record's fingerprint matches only under the configuration that it was made with.
func (f *fingerprint) config() (httpidem.Fingerprint, error) {
	own := fingerprint{Body: f.Body, Fields: sorted(f.Fields), Except: sorted(f.Except), AnyHost: f.AnyHost}
	for _, name := range f.Headers {
		own.Headers = append(own.Headers, http.CanonicalHeaderKey(name))
	}
	own.Headers = sorted(own.Headers)
	cfg := httpidem.Fingerprint{AnyHost: f.AnyHost}
	switch {
	case f.Fields != nil:
		own.Body, cfg.Func = "", httpidem.JSONFields(f.Fields...)
	case f.Except != nil:
		own.Body, cfg.Func = "", httpidem.JSONFieldsExcept(f.Except...)
	case f.Body == "json":
		cfg.Func = httpidem.CanonicalJSON
	case f.Body == "multipart":
		cfg.Func = httpidem.MultipartParts
	default:
		own.Body, cfg.Func = "", httpidem.WholeRequest
	}
	if f.Headers != nil {
		cfg.Func = httpidem.WithHeaders(cfg.Func, f.Headers...)
	}
	name, err := json.Marshal(own)
	if text := string(name); text != "{}" { // the default has none, as in programs
		cfg.Name = text
	}
	return cfg, err
}

// sorted returns each text once, in order.
func sorted(texts []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(texts)))
}

// fingerprints returns the fingerprint of new records, and the other ones that records may have.
func (p *Policy) fingerprints() (current httpidem.Fingerprint, others []httpidem.Fingerprint, err error) {
	own := fingerprint{}
	if p.Fingerprint != nil {
		own = *p.Fingerprint
	}
	if current, err = own.config(); err != nil {
		return current, nil, err
	}
	for i := range p.OtherFingerprints {
		other, err := p.OtherFingerprints[i].config()
		switch {
		case err != nil:
			return current, nil, err
		case other.Name == current.Name, slices.ContainsFunc(others, func(f httpidem.Fingerprint) bool { return f.Name == other.Name }):
			return current, nil, configfile.Invalid(fmt.Sprintf("other_fingerprints[%d]", i), "is there twice, or is that of fingerprint")
		}
		others = append(others, other)
	}
	return current, others, nil
}
