package main

import (
	_ "embed"
	"os"
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

// Run prints the header parameter, the headers and the answers of the gateway. It depends on the
// defaults of the routes and on the retention. The form is that of the draft profile.
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
	fragment := openAPIFragment{UUID: policies.Defaults.Keys == "uuid", Retention: c.Retention}
	if policies.Defaults.Retention != nil {
		fragment.Retention = *policies.Defaults.Retention
	}
	fragment.add(sources, policies.Defaults.Key == "required")
	return text.Execute(os.Stdout, fragment)
}

// openAPIFragment is what the template gets.
type openAPIFragment struct {
	UUID       bool
	Retention  time.Duration
	Parameters []openAPIParameter
	Pointers   []string // of keys in bodies
}

// openAPIParameter is a header field or a query parameter that may have the key.
type openAPIParameter struct {
	Component, Name, In string
	Required            bool
}

// add adds the places of keys. A parameter is required if it is the only place of a required key.
func (f *openAPIFragment) add(sources []httpidem.KeySource, required bool) {
	if sources == nil {
		sources = []httpidem.KeySource{{Header: idemheader.Key}}
	}
	for _, s := range sources {
		p := openAPIParameter{Component: "IdempotencyKey", Name: s.Header, In: "header", Required: required && len(sources) == 1}
		if s.Body != "" {
			f.Pointers = append(f.Pointers, s.Body)
			continue
		}
		if s.Query != "" {
			p.Name, p.In = s.Query, "query"
		}
		if n := len(f.Parameters); n > 0 {
			p.Component += strconv.Itoa(n + 1)
		}
		f.Parameters = append(f.Parameters, p)
	}
}
