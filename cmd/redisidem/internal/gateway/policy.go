package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Policy configures how the requests of a route are protected. Fields that a route leaves out have
// the values of the file's defaults.
type Policy struct {
	// Protect is whether requests are protected. Unprotected requests are forwarded unchanged.
	Protect *bool `yaml:"protect" help:"Whether requests are protected. Unprotected requests are forwarded unchanged."`
	// Methods are the protected methods, of IANA's registry. A route whose pattern has an unsafe
	// method protects only that one.
	Methods []string `yaml:"methods" jsonschema:"minItems=1" help:"The protected methods. A route whose match has an unsafe method protects only that one."`
	// Key is "required" or "optional". Syntax is "lenient" (keys with or without quotes) or
	// "strict" (with quotes).
	Key    string `yaml:"key" enum:"required,optional" help:"Whether requests must have an Idempotency-Key."`
	Syntax string `yaml:"syntax" enum:"lenient,strict" help:"lenient: keys with or without quotes; strict: with quotes."`
	// KeyFrom are the places of the key. Without any, it is the field Idempotency-Key.
	KeyFrom []keySource `yaml:"key_from" jsonschema:"minItems=1" properties:"1" help:"Where the key is, in place of the field Idempotency-Key. The first of these places that a request has counts. Those in the body come last."`
	// KeyPrefix is put before each key in the store: see [httpidem.KeyConfig].
	KeyPrefix string `yaml:"key_prefix" help:"Put before each key in the store, so that a value that another route of the scope uses too, such as the number of an order, is another key."`
	// Keys is "any" or "uuid". KeyWindow, if it is not zero, accepts only keys that contain their
	// creation time (version 7 UUIDs and ULIDs). The time may differ from now by KeyWindow, at most
	// half of the retention.
	Keys      string         `yaml:"keys" enum:"any,uuid" help:"The form of keys."`
	KeyWindow *time.Duration `yaml:"key_window" help:"If it is not 0s: accept only version 7 UUIDs and ULIDs whose time differs from now by no more. At most half of the retention."`
	// Retention is how long responses are stored. Nil means that of the service.
	Retention *time.Duration `yaml:"retention" help:"How long responses are stored, in place of the retention of all routes."`
	// PublishRetention sets [idemheader.Retention] on each response to a request with a key.
	PublishRetention *bool `yaml:"publish_retention" help:"Whether each response to a request with a key says how long it is kept."`
	// Wait is how long a retry waits for the request in flight. 0 refuses it at once.
	Wait *time.Duration `yaml:"wait" help:"How long a retry waits for the request in flight. 0s refuses it at once."`
	// Keep selects the responses that are stored: "final", "all", or a list of statuses and
	// classes, such as [2xx, 404]. "final" are responses that depend only on the request. See
	// [httpidem.ParseStatusPolicy].
	Keep words `yaml:"keep" help:"The responses that are stored: final, all, or a list of statuses and classes such as [2xx, 404]."`
	// WithoutRedis is "refuse" or "pass": what happens to requests while Redis is unavailable.
	WithoutRedis string `yaml:"without_redis" enum:"refuse,pass" help:"What happens to requests with a key while Redis is unavailable: refuse them, or pass them without protection."`
	// Interrupted is what happens to a request with an earlier attempt of unknown outcome. "refuse"
	// answers 503 until an operator settles it. "ask" asks the upstream, see Ask. "run" forwards it
	// again.
	Interrupted string `yaml:"interrupted" enum:"refuse,ask,run" help:"What happens to a request with an earlier attempt of unknown outcome: refuse it, ask the upstream, or run it again."`
	// Ask is a path at the upstream, with or without a query, that reports the outcome of an
	// earlier attempt. {key} is replaced by the key. A 2xx is returned to the client. A 404 means
	// that the work was not done and is not under way, and the request is forwarded again. Any
	// other response means that the outcome is unknown.
	Ask string `yaml:"ask" jsonschema:"pattern=^/([^/#][^#]*)?$" help:"Path at the upstream that reports the outcome of an earlier attempt; {key} is replaced by the key."`
	// Authorize is a path at the upstream, with or without a query, that reports whether a caller
	// is authorized. It is requested with GET and the header fields of the request, before the
	// store is called. A 2xx accepts the caller. 401 and 403 are returned to the client. Other
	// responses are answered with 503. "none" disables the check.
	Authorize string `yaml:"authorize" jsonschema:"pattern=^(none|/([^/#][^#]*)?)$" help:"Path at the upstream that reports whether the caller is authorized, or none."`
	// Profile is the form of problems and replays: "draft" (that of the draft, with RFC 9457) or
	// "stripe" (for Stripe's client libraries).
	Profile string `yaml:"profile" enum:"draft,stripe" help:"The form of problems and replays: that of the draft on Idempotency-Key, with problems of RFC 9457, or that of Stripe."`
	// ReplayHeader is the response field that marks a replay, in place of the marks of the profile,
	// or "none". See [httpidem.Config].
	ReplayHeader string `yaml:"replay_header" help:"Name of the response field that is true on each replay, of at most 64 bytes, in place of Idempotency-Replayed and what the profile adds; or none."`
	// Fingerprint is when two requests are the same. OtherFingerprints are those that records may
	// have before and during a change of Fingerprint.
	Fingerprint       *fingerprint  `yaml:"fingerprint" help:"When two requests with the same key are the same. Default: they have the same method, scheme, host, path, query, media type and body."`
	OtherFingerprints []fingerprint `yaml:"other_fingerprints" help:"What fingerprint was, or will be: keys that were first used with one of these stay usable. Needed for one retention after a change."`
	// Headers are response fields that are stored in addition to [httpidem.DefaultKeepHeaders].
	Headers []string `yaml:"headers" help:"Response fields that are stored in addition to the usual ones."`
	// Stream forwards responses of unknown length and event streams as they arrive. They are not
	// stored.
	Stream *bool `yaml:"stream" help:"Whether responses of unknown length and event streams are forwarded as they arrive, and are not stored."`
	// MaxBody and MaxResponse limit the bodies of requests and of stored responses, in bytes. Zero
	// means the defaults of httpidem.
	MaxBody     int64 `yaml:"max_body" help:"Maximum size of a request body in bytes. 0 is the default, 1 MiB."`
	MaxResponse int   `yaml:"max_response" help:"Maximum size of a stored response body in bytes. 0 is the default, 1 MiB."`
}

// keySource is a place of a key: see [httpidem.KeySource].
type keySource struct {
	Header string `yaml:"header" help:"Name of a header field."`
	Query  string `yaml:"query" help:"Name of a query parameter."`
	Body   string `yaml:"body" jsonschema:"pattern=^/" help:"JSON pointer of a text or a whole number in a JSON body, such as /data/id."`
}

// words is a list of words. A single word may stand without a list.
type words []string

// UnmarshalYAML implements [yaml.InterfaceUnmarshaler].
func (w *words) UnmarshalYAML(decode func(any) error) error {
	var value any
	if err := decode(&value); err != nil {
		return err
	}
	list, ok := value.([]any)
	switch {
	case value == nil:
		return nil
	case !ok:
		list = []any{value}
	}
	*w = make(words, 0, len(list))
	for _, word := range list {
		*w = append(*w, fmt.Sprint(word))
	}
	return nil
}

func (p *Policy) inherit(from *Policy) {
	if p.Protect == nil {
		p.Protect = from.Protect
	}
	if p.Methods == nil {
		p.Methods = from.Methods
	}
	p.Methods = slices.Clone(p.Methods)
	for i, method := range p.Methods {
		p.Methods[i] = strings.ToUpper(method)
	}
	if p.Keep == nil {
		p.Keep = from.Keep
	}
	if p.KeyFrom == nil {
		p.KeyFrom = from.KeyFrom
	}
	if p.KeyWindow == nil {
		p.KeyWindow = from.KeyWindow
	}
	if p.Retention == nil {
		p.Retention = from.Retention
	}
	if p.PublishRetention == nil {
		p.PublishRetention = from.PublishRetention
	}
	if p.Wait == nil {
		p.Wait = from.Wait
	}
	if p.Fingerprint == nil {
		p.Fingerprint = from.Fingerprint
	}
	if p.OtherFingerprints == nil {
		p.OtherFingerprints = from.OtherFingerprints
	}
	if p.Headers == nil {
		p.Headers = from.Headers
	}
	if p.Ask == "" {
		p.Ask = from.Ask
	}
	if p.Stream == nil {
		p.Stream = from.Stream
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&p.Key, from.Key},
		{&p.KeyPrefix, from.KeyPrefix},
		{&p.Syntax, from.Syntax},
		{&p.Keys, from.Keys},
		{&p.WithoutRedis, from.WithoutRedis},
		{&p.Interrupted, from.Interrupted},
		{&p.Authorize, from.Authorize},
		{&p.Profile, from.Profile},
		{&p.ReplayHeader, from.ReplayHeader},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	if p.MaxBody == 0 {
		p.MaxBody = from.MaxBody
	}
	if p.MaxResponse == 0 {
		p.MaxResponse = from.MaxResponse
	}
}

// validate reports the first field that is invalid, as a [configfile.FieldError].
func (p *Policy) validate() error {
	for _, f := range []struct{ name, value, none string }{{"ask", p.Ask, ""}, {"authorize", p.Authorize, "none"}} {
		if f.value == f.none {
			continue
		}
		if _, err := checkURL(f.value, "key"); err != nil {
			return configfile.Invalid(f.name, "%w: %q", err, f.value)
		}
	}
	if _, err := httpidem.ParseStatusPolicy(p.Keep...); err != nil {
		return configfile.Within("keep", err)
	}
	if _, err := p.KeySources(); err != nil {
		return err
	}
	if p.Fingerprint != nil {
		if err := p.Fingerprint.validate(); err != nil {
			return configfile.Within("fingerprint", err)
		}
	}
	for i := range p.OtherFingerprints {
		if err := p.OtherFingerprints[i].validate(); err != nil {
			return configfile.Within(fmt.Sprintf("other_fingerprints[%d]", i), err)
		}
	}
	if _, _, err := p.fingerprints(); err != nil {
		return err
	}
	switch {
	case p.Interrupted == "ask" && !strings.Contains(p.Ask, "{key}"):
		return configfile.Invalid("ask", "must contain {key} with interrupted: ask: %q", p.Ask)
	case strings.Contains(p.Authorize, "{key}"):
		return configfile.Invalid("authorize", "must not contain {key}, since the check runs before the key is read: %q", p.Authorize)
	case *p.KeyWindow > 0 && p.Keys == "uuid":
		return configfile.Invalid("key_window", "cannot be combined with keys: uuid; both define the form of keys")
	case len(p.Methods) == 0:
		return configfile.Invalid("methods", "must not be empty; use protect: false for routes without protection")
	}
	for i, method := range p.Methods {
		if err := checkMethod(fmt.Sprintf("methods[%d]", i), method); err != nil {
			return err
		}
	}
	return nil
}

// checkMethod refuses unknown methods, since a typing error would leave requests without the policy
// that they should have.
func checkMethod(field, method string) error {
	if httpidem.IsRegisteredMethod(method) {
		return nil
	}
	return configfile.Invalid(field, "must be a method of the registry of HTTP methods, such as POST: %q", method)
}

// KeySources returns the places of the key. Nil means the field Idempotency-Key.
func (p *Policy) KeySources() (sources []httpidem.KeySource, err error) {
	if p.KeyFrom != nil && len(p.KeyFrom) == 0 {
		return nil, configfile.Invalid("key_from", "must not be an empty list; leave it out for the default")
	}
	for i, from := range p.KeyFrom {
		source := httpidem.KeySource(from)
		if err := source.Validate(); err != nil {
			return nil, configfile.Within(fmt.Sprintf("key_from[%d]", i), err)
		}
		if i > 0 && p.KeyFrom[i-1].Body != "" && from.Body == "" {
			return nil, configfile.Invalid("key_from", "must have the places in the body last, since a body is read only if no other place has a key")
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// profile returns the form of the route's problems and replays.
func (p *Policy) profile() httpidem.Profile {
	if p.Profile == httpidem.ProfileStripe.String() {
		return httpidem.ProfileStripe
	}
	return httpidem.ProfileDraft
}
