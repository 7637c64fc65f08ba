package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// configured parses a command line of the gateway, with CONFIG for a file with the text.
func configured(t *testing.T, text string, args ...string) (*gatewayCommand, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "CONFIG", file)
	}
	return parseGateway(append([]string{"gateway"}, args...))
}

func TestConfigurationFileIsOverridden(t *testing.T) {
	const text = `
upstream: http://file
listen: :1
redis: 'memory:'
retention: 3h
cors_origin: [https://a.example, https://b.example]
auto_pipeline: false
scope_keys: 5
log_format: text
scope: unscoped
console:
  enabled: true
  trusted_header: X-User
  trusted_proxy: [10.0.0.0/8, 192.0.2.0/24]
  operator: [ann]
routes:
  - {match: POST /a, wait: 2s}
`
	c, err := configured(t, text, "--config", "CONFIG")
	if err != nil {
		t.Fatal(err)
	}
	if c.Upstream != "http://file" || c.Listen != ":1" || c.Redis != "memory:" || c.Retention != 3*time.Hour || c.ScopeKeys != 5 ||
		!slices.Equal(c.CORSOrigins, []string{"https://a.example", "https://b.example"}) || c.AutoPipeline || c.LogFormat != "text" {
		t.Errorf("the settings of the file are %+v", c.settings)
	}
	if c.Lease != 10*time.Second || len(c.content.Routes) != 1 {
		t.Errorf("the default is %v, the routes are %+v", c.Lease, c.content.Policies)
	}

	want := gatewayConsole{Enabled: true, consoleAccess: consoleAccess{
		TrustedHeader: "X-User", TrustedProxy: []string{"10.0.0.0/8", "192.0.2.0/24"}, Operator: []string{"ann"},
	}}
	if !reflect.DeepEqual(c.Console, want) || !reflect.DeepEqual(c.content.Console, want) {
		t.Errorf("the console of the file is %+v", c.Console)
	}

	t.Setenv("REDISIDEM_UPSTREAM", "http://environment")
	t.Setenv("REDISIDEM_CONSOLE_TRUSTED_HEADER", "X-Name")
	t.Setenv("REDISIDEM_RETENTION", "4h")
	t.Setenv("REDIS_URL", "redis://environment")
	c, err = configured(t, text, "--config=CONFIG", "--retention", "5h", "--auto-pipeline", "--console-operator=bob", "--cors-origin=https://c.example")
	if err != nil {
		t.Fatal(err)
	}
	if c.Upstream != "http://environment" || c.Redis != "redis://environment" || c.Retention != 5*time.Hour || !c.AutoPipeline ||
		!slices.Equal(c.CORSOrigins, []string{"https://c.example"}) || c.Listen != ":1" ||
		!c.Console.Enabled || c.Console.TrustedHeader != "X-Name" || !slices.Equal(c.Console.Operator, []string{"bob"}) {
		t.Errorf("the settings are %+v", c.settings)
	}
}

func TestConfigurationFileOfTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte("listen: :7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REDISIDEM_CONFIG", file)
	c, err := configured(t, "")
	if err != nil || c.Listen != ":7" {
		t.Errorf("it listens at %q, with the error %v", c.Listen, err)
	}
}

func TestErrorsNameWhereASettingWasMade(t *testing.T) {
	t.Parallel()
	const good = "upstream: http://x\nredis: 'memory:'\nscope: unscoped\n"
	for _, c := range []struct {
		text, want string
		args       []string
	}{
		{good + "lisen: :1\n", "gateway.yaml:4:1: lisen: unknown field", nil},
		{good + "config: other.yaml\n", "gateway.yaml:4:1: config: unknown field", nil},
		{good + "lease: soon\n", "gateway.yaml:4:1: lease: must be a duration", nil},
		{good + "log_format: xml\n", "gateway.yaml:4:1: log_format: must be text or json", nil},
		{good + "routes:\n  - {match: POST /a, keep: some}\n", "gateway.yaml:5:22: routes[0].keep: ", nil},
		{good + "defaults: {interrupted: ask}\n", "gateway.yaml:4:1: defaults.ask: must contain {key}", nil},
		{good + "tls_client_ca: none\n", "gateway.yaml:4:1: tls_client_ca: needs", nil},
		{good + "console: {enabled: true, wirte: true}\n", "gateway.yaml:4:26: console.wirte: unknown field", nil},
		{good + "console: {enabled: 1}\n", "gateway.yaml:4:11: console.enabled: must be true or false", nil},
		{good + "console: {enabled: true, write: true}\n", "gateway.yaml:4:1: console: --console-write needs", nil},
		{good, "--console-write needs", []string{"--console", "--console-write"}},
		{"upstream: ftp://x\n", "gateway.yaml:1:1: upstream: is not", nil},
		{"upstream: ftp://x\n", "--upstream: is not", []string{"--upstream=ftp://y"}},
		{"upstream: http://x/?a b\n", "gateway.yaml:1:1: upstream: has a space in its query; write %20", nil},
		{"listen: :1\n", "--upstream: must name", nil},
	} {
		g, err := configured(t, c.text, append([]string{"--config=CONFIG"}, c.args...)...)
		if err == nil {
			_, err = g.assemble(nil, nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error is %v, want one with %q", c.text, err, c.want)
		}
	}
}
