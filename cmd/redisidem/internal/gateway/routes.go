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
)

// Route is the policy of the requests that match a pattern.
type Route struct {
	// Match is a pattern of Go's [http.ServeMux], such as "POST /orders/{id}". The most specific
	// pattern wins.
	Match  string `yaml:"match"`
	Policy `yaml:",inline"`
}

// Routes is the content of a routes file.
type Routes struct {
	Defaults Policy  `yaml:"defaults"`
	Routes   []Route `yaml:"routes"`
}

// ReadRoutes reads a routes file. Unknown fields are an error. Without a file name there are only
// the defaults.
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

// complete fills in the defaults and validates the result.
func (r *Routes) complete() error {
	yes, no, none := true, false, time.Duration(0)
	r.Defaults.inherit(&Policy{
		Protect: &yes, Methods: []string{http.MethodPost, http.MethodPatch}, Key: "optional", Syntax: "lenient", Keys: "any",
		KeyWindow: &none, PublishRetention: &no, Wait: &none,
		Keep: words{"final"}, WithoutRedis: "refuse", Interrupted: "refuse", Profile: "standard", Authorize: "none", AnyHost: &no,
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

// complete fills in the fields that a route leaves out, and validates the result.
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
	// A route that protects nothing is accepted if it says protect: false, or if the defaults leave
	// its method out. Otherwise it is a mistake.
	if method != "" && *r.Protect && (named || required) && !slices.Contains(r.Methods, method) {
		return fmt.Errorf("methods (%v) must contain %s, the only method of match; use protect: false for routes without protection", r.Methods, method)
	}
	return r.validate()
}

// isSafe reports whether a method is safe (RFC 9110, section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// matcher returns a mux with the pattern of each route, only for matching.
func (r *Routes) matcher() (mux *http.ServeMux, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("routes: %v", v) // a mux panics on an invalid pattern
		}
	}()
	mux = http.NewServeMux()
	for i := range r.Routes {
		mux.Handle(r.Routes[i].Match, http.NotFoundHandler())
	}
	return mux, nil
}

// find returns the index of the route that a request matches, or -1.
func (r *Routes) find(mux *http.ServeMux, req *http.Request) int {
	if len(r.Routes) == 0 {
		return -1
	}
	// A mux redirects paths that are not clean. The path is cleaned only for matching, and is
	// forwarded unchanged.
	clean := *req.URL
	clean.Path = path.Clean("/" + clean.Path)
	if strings.HasSuffix(req.URL.Path, "/") && clean.Path != "/" {
		clean.Path += "/"
	}
	clean.RawPath = ""
	// The upstream may ignore the case of a method, as the middleware does.
	probe := &http.Request{Method: strings.ToUpper(req.Method), Host: req.Host, URL: &clean}
	_, pattern := mux.Handler(probe)
	return slices.IndexFunc(r.Routes, func(route Route) bool { return route.Match == pattern && pattern != "" })
}
