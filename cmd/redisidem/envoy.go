package main

import (
	"fmt"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/extproc"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// fromEnvoy is the upstream of a gateway that is an external processor of Envoy.
const fromEnvoy = "envoy:"

// checkEnvoy returns an error for a setting that an external processor of Envoy cannot follow. It
// can send no request of its own, and sees no client but Envoy.
func (c *gatewayCommand) checkEnvoy(policies *gateway.Policies) error {
	if c.Upstream != fromEnvoy {
		return nil
	}
	if c.Scope == "certificate" {
		return configfile.Invalid("scope", "cannot be certificate with the upstream envoy:, since the certificate is Envoy's")
	}
	if err := checkEnvoyPolicy(&policies.Defaults); err != nil {
		return configfile.Within("defaults", err)
	}
	for i := range policies.Routes {
		if err := checkEnvoyPolicy(&policies.Routes[i].Policy); err != nil {
			return configfile.Within(fmt.Sprintf("routes[%d]", i), err)
		}
	}
	return nil
}

func checkEnvoyPolicy(p *gateway.Policy) error {
	switch {
	case p.Authorize != "none":
		return configfile.Invalid("authorize", "must be none with the upstream envoy:, since Envoy sends no further requests")
	case p.Interrupted == "ask":
		return configfile.Invalid("interrupted", "must be refuse or run with the upstream envoy:, since Envoy sends no further requests")
	case *p.Stream:
		return configfile.Invalid("stream", "must be false with the upstream envoy:, since responses are buffered")
	case p.MaxBody > extproc.MaxBodyBytes:
		return configfile.Invalid("max_body", "must be at most %d with the upstream envoy:", extproc.MaxBodyBytes)
	case p.MaxResponse > extproc.MaxBodyBytes:
		return configfile.Invalid("max_response", "must be at most %d with the upstream envoy:", extproc.MaxBodyBytes)
	}
	return nil
}
