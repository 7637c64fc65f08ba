package main

import (
	_ "embed"
	"os"
	"text/template"
	"time"
)

//go:embed openapi.yaml.tmpl
var openAPITemplate string

// gatewayOpenAPI prints parts of an OpenAPI document.
type gatewayOpenAPI struct{}

// Run prints the header parameter, the headers and the answers of the gateway. It depends on the
// defaults of the routes and on the retention. The form is that of the standard profile.
func (gatewayOpenAPI) Run(c *gatewayCommand) error {
	text, err := template.New("openapi").Parse(openAPITemplate)
	if err != nil {
		return err
	}
	policies := c.content.Policies
	if err := policies.Complete(); err != nil {
		return c.explain(err)
	}
	return text.Execute(os.Stdout, struct {
		Required, UUID bool
		Retention      time.Duration
	}{policies.Defaults.Key == "required", policies.Defaults.Keys == "uuid", c.Retention})
}
