package caddyidem_test

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"

	_ "github.com/redisidem/redisidem/contrib/caddyidem"
)

// A Caddyfile for a payments API. The key belongs to the user that basic_auth has found.
func Example() {
	const text = `{
	order idempotency after basic_auth
}
http://api.example.com {
	idempotency {
		redis {env.REDIS_URL}
		scope {http.auth.user.id}
		retention 48h
		wait 5s
		max_body 256KiB
	}
	reverse_proxy 10.0.0.7:8080
}`
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var site struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []struct {
							Routes []struct {
								Handle []json.RawMessage `json:"handle"`
							} `json:"routes"`
						} `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &site); err != nil {
		fmt.Println(err)
		return
	}
	// What the directive is in JSON.
	var directive bytes.Buffer
	if err := json.Indent(&directive, site.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0].Routes[0].Handle[0], "", "  "); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(directive.String())
	// Output:
	// {
	//   "handler": "idempotency",
	//   "max_body": 262144,
	//   "redis": "{env.REDIS_URL}",
	//   "retention": 172800000000000,
	//   "scope": "{http.auth.user.id}",
	//   "wait": 5000000000
	// }
}
