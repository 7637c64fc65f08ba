package main

import (
	_ "embed"
	"os"
	"slices"
	"strconv"
	"text/template"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

//go:embed openapi.yaml.tmpl
var openAPITemplate string

// gatewayOpenAPI prints parts of an OpenAPI document.
type gatewayOpenAPI struct{}

// Run prints the parameters with keys, the headers and the answers of the gateway. It depends on
// the defaults of the routes, on the retention, and on the places of keys of each route.
func (gatewayOpenAPI) Run(c *gatewayCommand) error {
	text, err := template.New("openapi").Parse(openAPITemplate)
	if err != nil {
		return err
	}
	policies := c.content.Policies
	if err := policies.Complete(); err != nil {
		return c.explain(err)
	}
	sources, err := policies.Defaults.KeySources()
	if err != nil {
		return c.explain(err)
	}
	fragment := openAPIFragment{
		UUID: policies.Defaults.Keys == "uuid", Retention: c.Retention, MediaType: "application/problem+json",
		Stripe: policies.Defaults.Profile == httpidem.ProfileStripe.String(), Replayed: policies.Defaults.ReplayHeader,
	}
	if fragment.Stripe {
		fragment.MediaType = "application/json"
	}
	switch fragment.Replayed {
	case "":
		fragment.Replayed = idemheader.Replayed
	case httpidem.NoReplayHeader:
		fragment.Replayed = ""
	}
	if policies.Defaults.Retention != nil {
		fragment.Retention = *policies.Defaults.Retention
	}
	fragment.add("", sources, policies.Defaults.Key == "required")
	for i := range policies.Routes {
		route := &policies.Routes[i]
		if sources, err = route.KeySources(); err != nil {
			return c.explain(err)
		}
		if *route.Protect {
			fragment.add(route.Match, sources, route.Key == "required")
		}
	}
	return text.Execute(os.Stdout, fragment)
}

// openAPIFragment is what the template gets.
type openAPIFragment struct {
	UUID       bool
	Stripe     bool // the form of problems
	MediaType  string
	Replayed   string // the field that marks replays; empty for none
	Retention  time.Duration
	Parameters []openAPIParameter
	Pointers   []openAPIPointer
}

// openAPIPointer is the place of a key in a body. Route is the only route with it, or empty.
type openAPIPointer struct{ Pointer, Route string }

// openAPIParameter is a header field or a query parameter that may have the key.
type openAPIParameter struct {
	Component, Name, In, Route string // Route is as in openAPIPointer
	Required                   bool
}

// add adds the places of keys of a route that are not there yet. A parameter is required if it is
// the only place of a required key.
func (f *openAPIFragment) add(route string, sources []httpidem.KeySource, required bool) {
	if sources == nil {
		sources = []httpidem.KeySource{{Header: idemheader.Key}}
	}
	for _, s := range sources {
		p := openAPIParameter{Route: route, Component: "IdempotencyKey", Name: s.Header, In: "header", Required: required && len(sources) == 1}
		if s.Body != "" {
			if !slices.ContainsFunc(f.Pointers, func(p openAPIPointer) bool { return p.Pointer == s.Body }) {
				f.Pointers = append(f.Pointers, openAPIPointer{s.Body, route})
			}
			continue
		}
		if s.Query != "" {
			p.Name, p.In = s.Query, "query"
		}
		if slices.ContainsFunc(f.Parameters, func(other openAPIParameter) bool { return other.Name == p.Name && other.In == p.In }) {
			continue
		}
		if n := len(f.Parameters); n > 0 {
			p.Component += strconv.Itoa(n + 1)
		}
		f.Parameters = append(f.Parameters, p)
	}
}
