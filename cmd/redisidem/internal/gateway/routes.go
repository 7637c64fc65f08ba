package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Policy says how requests of a route are protected. What a route leaves out is as in the file's
// defaults.
type Policy struct {
	// Protect is false for routes that go through as they are.
	Protect *bool `yaml:"protect"`
	// Methods are those that are protected. A route whose pattern names a method that is not safe
	// has that one alone.
	Methods []string `yaml:"methods"`
	// Key is "required" or "optional", and Syntax "lenient" (keys with or without quotes) or
	// "strict" (with quotes).
	Key    string `yaml:"key"`
	Syntax string `yaml:"syntax"`
	// Keys is "any" or "uuid". KeyWindow, if not zero, takes only keys that tell when they were
	// made (version 7 UUIDs and ULIDs), by this much before or after now at most.
	Keys      string         `yaml:"keys"`
	KeyWindow *time.Duration `yaml:"key_window"`
	// PublishRetention adds to each answer how long it is kept.
	PublishRetention *bool `yaml:"publish_retention"`
	// Wait is how long a retry waits for the request in flight.
	Wait *time.Duration `yaml:"wait"`
	// Keep are the answers that are kept: "final" (those that depend on the request), "all", or a
	// list of statuses and classes of them, as [2xx, 404]; see httpidem.ParseStatusPolicy.
	Keep words `yaml:"keep"`
	// WithoutRedis is "refuse" or "pass": what happens to requests when Redis does not answer.
	WithoutRedis string `yaml:"without_redis"`
	// Interrupted is what happens to a request whose earlier attempt began and was not finished, so
	// that its outcome is unknown: "run" sends it again, "refuse" answers 503 until an operator
	// resolves it, "ask" asks the upstream.
	Interrupted string `yaml:"interrupted"`
	// Ask is the path at the upstream to ask, maybe with a query, with {key} where the idempotency
	// key goes: 2xx is the answer to give, 404 means that the request has to be sent again, and
	// anything else that the outcome is unknown.
	Ask string `yaml:"ask"`
	// Authorize is a path at the upstream, maybe with a query, that is asked, with GET and the
	// header fields of the request, whether its caller may do it, before an answer is given from
	// the store: 2xx is yes, 401 and 403 are passed on. "none" disables the check.
	Authorize string `yaml:"authorize"`
	// Profile is the form of the gateway's own answers and of its mark on replays: "standard" (RFC
	// 9457) or "stripe" (that of Stripe's API, for its client libraries).
	Profile string `yaml:"profile"`
	// Fingerprint are the JSON fields of the body that make two requests the same, with dots
	// between the names on the way to one, as customer.id; none: the whole body.
	Fingerprint []string `yaml:"fingerprint"`
	// AnyHost takes requests with the same key to different hosts for the same request, if all else
	// is the same.
	AnyHost *bool `yaml:"any_host"`
	// Headers are the fields of an answer that are stored besides those that always are.
	Headers []string `yaml:"headers"`
	// Stream sends answers that the upstream sends bit by bit on as they come, and does not keep
	// them.
	Stream *bool `yaml:"stream"`
	// MaxBody and MaxResponse are in bytes.
	MaxBody     int64 `yaml:"max_body"`
	MaxResponse int   `yaml:"max_response"`
}

// words are the words of a list, or a single one without a list around it.
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

// Route is a policy for some requests.
type Route struct {
	// Match is a pattern like those of Go's http.ServeMux: "POST /orders/{id}". The most specific
	// one counts.
	Match  string `yaml:"match"`
	Policy `yaml:",inline"`
}

// Routes are the contents of a routes file.
type Routes struct {
	Defaults Policy  `yaml:"defaults"`
	Routes   []Route `yaml:"routes"`
}

// ReadRoutes reads a routes file, and refuses what it does not know. Without a file name there are
// no routes but the defaults.
func ReadRoutes(file string) (*Routes, error) {
	r := &Routes{}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(r); err != nil && !errors.Is(err, io.EOF) { // an empty file
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := r.complete(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// complete fills in what was left out, and checks the rest.
func (r *Routes) complete() error {
	yes, no, none := true, false, time.Duration(0)
	r.Defaults.inherit(&Policy{
		Protect: &yes, Methods: []string{http.MethodPost, http.MethodPatch}, Key: "optional", Syntax: "lenient", Keys: "any",
		KeyWindow: &none, PublishRetention: &no, Wait: &none,
		Keep: words{"final"}, WithoutRedis: "refuse", Interrupted: "run", Profile: "standard", Authorize: "none", AnyHost: &no,
		Stream: &no,
	})
	if err := r.Defaults.validate(); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	for i := range r.Routes {
		route := &r.Routes[i]
		if err := route.complete(&r.Defaults); err != nil {
			return fmt.Errorf("routes[%d] (%s): %w", i, route.Match, err)
		}
	}
	_, err := r.matcher()
	return err
}

// complete fills in what a route leaves out, and checks the rest.
func (r *Route) complete(defaults *Policy) error {
	named, required := r.Methods != nil, r.Key == "required"
	r.inherit(defaults)
	method := ""
	if end := strings.IndexAny(r.Match, " \t"); end >= 0 {
		method = strings.ToUpper(r.Match[:end])
		r.Match = method + r.Match[end:]
	}
	if !named && method != "" && !isSafe(method) {
		r.Methods = []string{method}
	}
	// A route of which nothing is protected is meant so when it says protect: false, or leaves to
	// the defaults what happens to a GET.
	if method != "" && *r.Protect && (named || required) && !slices.Contains(r.Methods, method) {
		return fmt.Errorf("methods is %v, and match is for %s alone; use protect: false for routes without protection", r.Methods, method)
	}
	return r.validate()
}

// isSafe reports whether requests with a method ask for nothing to be done (RFC 9110, section
// 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
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
	if p.KeyWindow == nil {
		p.KeyWindow = from.KeyWindow
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
	if p.AnyHost == nil {
		p.AnyHost = from.AnyHost
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
		{&p.Syntax, from.Syntax},
		{&p.Keys, from.Keys},
		{&p.WithoutRedis, from.WithoutRedis},
		{&p.Interrupted, from.Interrupted},
		{&p.Authorize, from.Authorize},
		{&p.Profile, from.Profile},
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

func (p *Policy) validate() error {
	for _, f := range []struct {
		name, value string
		words       []string
	}{
		{"key", p.Key, []string{"required", "optional"}},
		{"syntax", p.Syntax, []string{"lenient", "strict"}},
		{"keys", p.Keys, []string{"any", "uuid"}},
		{"without_redis", p.WithoutRedis, []string{"refuse", "pass"}},
		{"interrupted", p.Interrupted, []string{"run", "refuse", "ask"}},
		{"profile", p.Profile, []string{httpidem.ProfileStandard.String(), httpidem.ProfileStripe.String()}},
	} {
		if !slices.Contains(f.words, f.value) {
			return fmt.Errorf("%s is %q, and not %s", f.name, f.value, strings.Join(f.words, " or "))
		}
	}
	for _, f := range []struct{ name, value, none string }{{"ask", p.Ask, ""}, {"authorize", p.Authorize, "none"}} {
		if f.value == f.none {
			continue
		}
		if _, err := target(f.value, "key"); err != nil {
			return fmt.Errorf("%s is %q: %w", f.name, f.value, err)
		}
	}
	if _, err := httpidem.ParseStatusPolicy(p.Keep...); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	if err := httpidem.CheckJSONFields(p.Fingerprint...); err != nil {
		return fmt.Errorf("fingerprint: %w", err)
	}
	switch {
	case p.Interrupted == "ask" && !strings.Contains(p.Ask, "{key}"):
		return fmt.Errorf("ask is %q, and has no {key}, which interrupted: ask needs", p.Ask)
	case strings.Contains(p.Authorize, "{key}"):
		return fmt.Errorf("authorize is %q, and is asked before a key is looked at", p.Authorize)
	case *p.KeyWindow < 0:
		return fmt.Errorf("key_window is %v, and must not be negative", *p.KeyWindow)
	case *p.KeyWindow > 0 && p.Keys == "uuid":
		return errors.New("key_window cannot be combined with keys: uuid, since it defines the form of keys as well")
	case *p.Wait < 0:
		return fmt.Errorf("wait is %v, and must not be negative", *p.Wait)
	case len(p.Methods) == 0:
		return errors.New("methods is empty; use protect: false for routes without protection")
	}
	return nil
}

// matcher returns a mux that knows each route's pattern. It serves nothing.
func (r *Routes) matcher() (mux *http.ServeMux, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("routes: %v", v) // that is how a mux refuses a pattern
		}
	}()
	mux = http.NewServeMux()
	for i := range r.Routes {
		mux.Handle(r.Routes[i].Match, http.NotFoundHandler())
	}
	return mux, nil
}

// find returns the number of the route that a request belongs to, or -1.
func (r *Routes) find(mux *http.ServeMux, req *http.Request) int {
	// A mux would redirect a path that is not clean. Here it is only to be found, and goes to the
	// upstream as it came.
	clean := *req.URL
	clean.Path = path.Clean("/" + clean.Path)
	if strings.HasSuffix(req.URL.Path, "/") && clean.Path != "/" {
		clean.Path += "/"
	}
	clean.RawPath = ""
	// What stands behind may not care for the letters of a method, and neither does the middleware.
	probe := &http.Request{Method: strings.ToUpper(req.Method), Host: req.Host, URL: &clean}
	_, pattern := mux.Handler(probe)
	return slices.IndexFunc(r.Routes, func(route Route) bool { return route.Match == pattern && pattern != "" })
}

// profile is the form of the route's problems and replays.
func (p *Policy) profile() httpidem.Profile {
	if p.Profile == httpidem.ProfileStripe.String() {
		return httpidem.ProfileStripe
	}
	return httpidem.ProfileStandard
}
