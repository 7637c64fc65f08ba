package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
)

// Route is the policy of the requests that match a pattern.
type Route struct {
	// Match is a pattern of Go's [http.ServeMux], such as "POST /orders/{id}". The most specific
	// pattern wins. Methods and hosts match in any case, and hosts with or without a final dot.
	Match  string `yaml:"match" jsonschema:"required" help:"Pattern of Go's http.ServeMux, such as POST /orders/{id}."`
	Policy `yaml:",inline"`
}

// Policies are the policies of a configuration file.
type Policies struct {
	Defaults Policy  `yaml:"defaults" help:"Policy of all requests, as far as their route does not say otherwise."`
	Routes   []Route `yaml:"routes" help:"Policies of routes. The route with the most specific match applies."`
}

// Complete fills in the defaults and validates the result. Its errors are
// [configfile.FieldError]s. Copies of r keep their routes.
func (r *Policies) Complete() error {
	r.Routes = slices.Clone(r.Routes)
	yes, no, none := true, false, time.Duration(0)
	r.Defaults.inherit(&Policy{
		Protect: &yes, Methods: []string{http.MethodPost, http.MethodPatch}, Key: "optional", Syntax: "lenient", Keys: "any",
		KeyWindow: &none, PublishRetention: &no, Wait: &none,
		Keep: words{"final"}, WithoutRedis: "refuse", Interrupted: "refuse", Profile: "draft", Authorize: "none",
		Stream: &no,
	})
	if err := r.Defaults.validate(); err != nil {
		return configfile.Within("defaults", err)
	}
	for i := range r.Routes {
		route := &r.Routes[i]
		if err := route.complete(&r.Defaults); err != nil {
			return configfile.Within(fmt.Sprintf("routes[%d]", i), err)
		}
	}
	_, err := r.matcher()
	return err
}

// complete fills in the fields that a route leaves out, and validates the result.
func (r *Route) complete(defaults *Policy) error {
	named, required := r.Methods != nil, r.Key == "required"
	r.inherit(defaults)
	method, rest := "", r.Match
	if end := strings.IndexAny(r.Match, " \t"); end >= 0 {
		method, rest = strings.ToUpper(r.Match[:end]), r.Match[end:]
	}
	if root := strings.IndexByte(rest, '/'); root >= 0 {
		rest = canonicalHost(rest[:root]) + rest[root:]
	}
	r.Match = method + rest
	if method != "" {
		if err := checkMethod("match", method); err != nil {
			return err
		}
	}
	if !named && method != "" && !isSafe(method) {
		r.Methods = []string{method}
	}
	// A route that protects nothing is accepted if it says protect: false, or if the defaults leave
	// its method out. Otherwise it is a mistake.
	if method != "" && *r.Protect && (named || required) && !slices.Contains(r.Methods, method) {
		return configfile.Invalid("methods", "must contain %s, the only method of match, and are %v; use protect: false for routes without protection", method, r.Methods)
	}
	return r.validate()
}

// canonicalHost returns the one form of a host, with or without a port, that routes match. Its case
// does not matter (RFC 9110, section 4.2.3; that of a path does), and neither does the final dot of
// an absolute name.
func canonicalHost(host string) string {
	host = strings.ToLower(host)
	end := len(host)
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 {
		end = colon
	}
	name := strings.TrimSuffix(host[:end], ".")
	if strings.TrimSpace(name) == "" { // a dot alone is not every host
		return host
	}
	return name + host[end:]
}

// isSafe reports whether a method is safe (RFC 9110, section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// registeredAt is the place in this program that a mux names for a pattern.
var registeredAt = regexp.MustCompile(` \(registered at [^)]*\)`)

// matcher returns a mux with the pattern of each route, only for matching.
func (r *Policies) matcher() (mux *http.ServeMux, err error) {
	i := 0
	defer func() {
		if v := recover(); v != nil { // a mux panics on an invalid pattern
			err = configfile.Invalid(fmt.Sprintf("routes[%d].match", i), "%s", registeredAt.ReplaceAllString(fmt.Sprint(v), ""))
		}
	}()
	mux = http.NewServeMux()
	for ; i < len(r.Routes); i++ {
		mux.Handle(r.Routes[i].Match, http.NotFoundHandler())
	}
	return mux, nil
}

// find returns the index of the route that a request matches, or -1. If servers read the path of
// the request in ways that match different routes, it returns a route whose policy is as safe as
// that of each other one. ok is false if none is, and the index is then that of the first reading.
func (r *Policies) find(mux *http.ServeMux, req *http.Request) (i int, ok bool) {
	if len(r.Routes) == 0 {
		return -1, true
	}
	if isPlainPath(req.URL) {
		return r.match(mux, req, &url.URL{Path: req.URL.Path}), true
	}
	var found []int
	for _, p := range pathReadings(req.URL) {
		if i := r.match(mux, req, p); !slices.Contains(found, i) {
			found = append(found, i)
		}
	}
	method := strings.ToUpper(req.Method)
	for _, i := range found {
		if !slices.ContainsFunc(found, func(j int) bool { return j != i && !r.policy(i).covers(r.policy(j), method) }) {
			return i, true
		}
	}
	return found[0], false
}

// match returns the index of the route that a request with a clean path in place of its own
// matches, or -1.
func (r *Policies) match(mux *http.ServeMux, req *http.Request, path *url.URL) int {
	// The upstream may ignore the case of a method, as the middleware does.
	probe := &http.Request{Method: strings.ToUpper(req.Method), Host: canonicalHost(req.Host), URL: path}
	_, pattern := mux.Handler(probe)
	return slices.IndexFunc(r.Routes, func(route Route) bool { return route.Match == pattern && pattern != "" })
}

// covers reports whether requests with a method that should have the other policy are as safe with
// p: it protects them in the same way, and refuses at least what the other one refuses.
func (p *Policy) covers(other *Policy, method string) bool {
	switch {
	case !other.protects(method):
		return true
	case !p.protects(method):
		return false
	}
	same := *other
	same.Methods = p.Methods
	if p.Key == "required" {
		same.Key = p.Key
	}
	if p.WithoutRedis == "refuse" {
		same.WithoutRedis = p.WithoutRedis
	}
	if p.Interrupted == "refuse" {
		same.Interrupted, same.Ask = p.Interrupted, p.Ask
	}
	return reflect.DeepEqual(*p, same)
}

// serveWithoutRedis reports whether a policy serves its requests although Redis cannot be used.
func (r *Policies) serveWithoutRedis() bool {
	return r.Defaults.servesWithoutRedis() || slices.ContainsFunc(r.Routes, func(route Route) bool { return route.servesWithoutRedis() })
}

func (p *Policy) servesWithoutRedis() bool { return !*p.Protect || p.WithoutRedis == "pass" }

// LongestRetention returns the longest retention of all policies, of which base is that of the
// service.
func (r *Policies) LongestRetention(base time.Duration) time.Duration {
	longest := base
	for i := range r.Routes {
		if own := r.Routes[i].Retention; own != nil {
			longest = max(longest, *own)
		}
	}
	if own := r.Defaults.Retention; own != nil {
		longest = max(longest, *own)
	}
	return longest
}
