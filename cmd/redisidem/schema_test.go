package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	invopop "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
)

// generatedSchema returns the schema of the struct that the file is decoded into.
func generatedSchema(t *testing.T) string {
	t.Helper()
	r := &invopop.Reflector{
		FieldNameTag: "yaml", DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true,
		Mapper: func(typ reflect.Type) *invopop.Schema {
			switch {
			case typ == reflect.TypeFor[time.Duration]():
				return &invopop.Schema{Type: "string", Pattern: `^\+?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`}
			case typ.Kind() == reflect.Slice && typ.Name() != "": // a list of words, or one word
				word := &invopop.Schema{OneOf: []*invopop.Schema{{Type: "string"}, {Type: "integer"}}}
				return &invopop.Schema{OneOf: []*invopop.Schema{{Type: "string"}, {Type: "integer"}, {Type: "array", Items: word}}}
			}
			return nil
		},
	}
	s := r.ReflectFromType(reflect.TypeFor[configuration]())
	s.ID, s.Title = "", "Configuration of redisidem gateway"
	addTags(t, s, reflect.TypeFor[configuration]())
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// addTags adds what the other tags of a struct's fields say.
func addTags(t *testing.T, s *invopop.Schema, typ reflect.Type) {
	t.Helper()
	for _, field := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		p, ok := s.Properties.Get(name)
		if !ok {
			t.Fatalf("%s is not in the schema", name)
		}
		if p.Description = field.Tag.Get("help"); p.Description == "" {
			t.Errorf("%s has no help", name)
		}
		inner := field.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if words := field.Tag.Get("enum"); words != "" {
			for word := range strings.SplitSeq(words, ",") {
				p.Enum = append(p.Enum, word)
			}
		}
		if inner.Kind() == reflect.Int || inner.Kind() == reflect.Int64 && p.Type == "integer" {
			p.Minimum = "0"
		}
		if text, ok := field.Tag.Lookup("default"); ok {
			p.Default = text
			if on, err := strconv.ParseBool(text); err == nil && inner.Kind() == reflect.Bool {
				p.Default = on
			}
		}
		if inner.Kind() == reflect.Struct {
			if p.Items != nil {
				p = p.Items
			}
			if n, err := strconv.ParseUint(field.Tag.Get("properties"), 10, 0); err == nil {
				p.MinProperties, p.MaxProperties = &n, &n
			}
			addTags(t, p, inner)
		}
	}
}

func TestSchemaIsThatOfTheConfiguration(t *testing.T) {
	t.Parallel()
	want := generatedSchema(t)
	if *update {
		if err := os.WriteFile("gateway.schema.json", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if schema != want {
		t.Error("gateway.schema.json is out of date; write it with go test -run TestSchema -update")
	}
	if got := command(t, "", "", "gateway", "schema"); got != schema {
		t.Errorf("the command prints %s", got)
	}
}

// compiledSchema returns the schema as a validator.
func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("gateway.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("gateway.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// accepts validates a YAML text against the schema.
func accepts(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return err
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// loads reads a text as the gateway does.
func loads(text string) error {
	f, err := configfile.Parse("gateway.yaml", []byte(text))
	if err != nil {
		return err
	}
	c := &gatewayCommand{file: f}
	if err := f.Decode(&c.content); err != nil {
		return err
	}
	return f.Locate(c.content.Complete())
}

// TestSchemaAndLoaderAcceptTheExamples reads the YAML of the documents, and the configurations in
// deploy.
func TestSchemaAndLoaderAcceptTheExamples(t *testing.T) {
	t.Parallel()
	s := compiledSchema(t)
	examples := []string{"redis: 'memory:'\nscope: unscoped\nkeep_host: true\nlease: 1.5s\nread_timeout: 0s\n"}
	for _, text := range gatewayConfigurations(t) {
		examples = append(examples, text)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	of := regexp.MustCompile("(?s)```ya?ml\n(.*?)```")
	for _, name := range append(pages, "README.md", "../../README.md", "../../deploy/README.md") {
		page, err := os.ReadFile(name) //nolint:gosec // a page of the project
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range of.FindAllStringSubmatch(string(page), -1) {
			isForOthers := strings.HasPrefix(block[1], "spec:") || strings.HasPrefix(block[1], "http_filters:") // Kubernetes, Envoy
			if !isForOthers {
				examples = append(examples, block[1])
			}
		}
	}
	if len(examples) != 8 {
		t.Fatalf("%d examples are found", len(examples))
	}
	for _, text := range examples {
		if err := accepts(t, s, text); err != nil {
			t.Errorf("the schema refuses %s: %v", text, err)
		}
		if err := loads(text); err != nil {
			t.Errorf("the loader refuses %s: %v", text, err)
		}
	}
}

func TestSchemaAndLoaderRefuseBrokenFiles(t *testing.T) {
	t.Parallel()
	s := compiledSchema(t)
	for _, c := range []struct {
		text         string
		line, column int
		field        string
	}{
		{"listen: :1\nlisten_on: :2\n", 2, 1, "listen_on"},
		{"listen: 80\n", 1, 1, "listen"},
		{"listen:\n", 1, 1, "listen"},
		{"keep_host: 'yes'\n", 1, 1, "keep_host"},
		{"keep_host: 1\n", 1, 1, "keep_host"},
		{"scope_keys: many\n", 1, 1, "scope_keys"},
		{"scope_keys: 1.5\n", 1, 1, "scope_keys"},
		{"listen: :1\nscope_keys: -1\n", 2, 1, "scope_keys"},
		{"lease: 10\n", 1, 1, "lease"},
		{"spool_dir: /tmp\nspool_above: 64KiB\n", 2, 1, "spool_above"},
		{"lease: 10 seconds\n", 1, 1, "lease"},
		{"lease: -10s\n", 1, 1, "lease"},
		{"log_format: xml\n", 1, 1, "log_format"},
		{"cors_origin: https://a.example\n", 1, 1, "cors_origin"},
		{"cors_origin:\n  - https://a.example\n  - 7\n", 3, 5, "cors_origin[1]"},
		{"routes: POST /a\n", 1, 1, "routes"},
		{"routes:\n", 1, 1, "routes"},
		{"routes:\n  - key: required\n", 2, 5, "routes[0].match"},
		{"routes:\n  - match: POST /a\n    kye: required\n", 3, 5, "routes[0].kye"},
		{"routes:\n  - {match: POST /a, key: maybe}\n", 2, 22, "routes[0].key"},
		{"routes:\n  - match: POST /a\n    wait: 3\n", 3, 5, "routes[0].wait"},
		{"routes:\n  - match: POST /a\n    methods: []\n", 3, 5, "routes[0].methods"},
		{"routes:\n  - match: POST /a\n    ask: orders/{key}\n", 3, 5, "routes[0].ask"},
		{"routes:\n  - match: POST /a\n    key_from: {body: /id}\n", 3, 5, "routes[0].key_from"},
		{"routes:\n  - match: POST /a\n    key_from: body:/id\n", 3, 5, "routes[0].key_from"},
		{"routes:\n  - match: POST /a\n    fingerprint: [amount]\n", 3, 5, "routes[0].fingerprint"},
		{"routes:\n  - match: POST /a\n    fingerprint:\n      body: xml\n", 4, 7, "routes[0].fingerprint.body"},
		{"routes:\n  - match: POST /a\n    fingerprint: {fields: []}\n", 3, 19, "routes[0].fingerprint.fields"},
		{"routes:\n  - match: POST /a\n    other_fingerprints: {body: json}\n", 3, 5, "routes[0].other_fingerprints"},
		{"routes:\n  - match: POST /a\n    key_from: []\n", 3, 5, "routes[0].key_from"},
		{"routes:\n  - match: POST /a\n    key_from: [{cookie: id}]\n", 3, 17, "routes[0].key_from[0].cookie"},
		{"routes:\n  - match: POST /a\n    key_from: [{}]\n", 3, 16, "routes[0].key_from[0]"},
		{"routes:\n  - match: POST /a\n    key_from: [{header: X, query: x}]\n", 3, 16, "routes[0].key_from[0]"},
		{"routes:\n  - match: POST /a\n    key_from:\n      - body: id\n", 4, 9, "routes[0].key_from[0]"},
		{"routes:\n  - match: POST /a\n    max_body: 1MB\n", 3, 5, "routes[0].max_body"},
		{"routes:\n  - match: POST /a\n    keep: {2xx: true}\n", 3, 5, "routes[0].keep"},
		{"defaults: []\n", 1, 1, "defaults"},
		{"defaults: {authorize: '//may'}\n", 1, 12, "defaults.authorize"},
		{"console: true\n", 1, 1, "console"},
		{"console:\n  enabled: true\n  operator: ann\n", 3, 3, "console.operator"},
		{"console: {enable: true}\n", 1, 11, "console.enable"},
		{"- listen: :1\n", 1, 1, ""},
	} {
		if err := accepts(t, s, c.text); err == nil {
			t.Errorf("the schema accepts %s", c.text)
		}
		want := fmt.Sprintf("gateway.yaml:%d:%d: %s", c.line, c.column, c.field)
		if err := loads(c.text); err == nil || !strings.HasPrefix(err.Error(), want+":") && (c.field != "" || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: the loader's error is %v, want %s", c.text, err, want)
		}
	}
}

func TestGatewayValidate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := dir + "/" + name
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	of := func(name, lines string) []string {
		return []string{write(name+".yaml", "upstream: http://x\nscope: unscoped\n"+lines)}
	}
	good := write("good.yaml", "upstream: http://x\nscope: unscoped\nroutes: [{match: POST /a}]\n")
	missing := write("missing.yaml", "upstream: http://x\nscope: jwt:sub\njwt_key: none.pem\n")
	const valid, invalid, usage = "the configuration is valid\n", "[exit status 1]", "[exit status 2]"
	for _, c := range []struct {
		args         []string
		want, status string
	}{
		{[]string{good}, valid, ""},
		{[]string{"--config", good}, valid, ""},
		{[]string{"--upstream=http://y", "--scope=unscoped"}, valid, ""},
		{[]string{good, "--redis="}, "the configuration is valid, except that --redis (or REDIS_URL) is not set\n", ""},
		{[]string{good, "--redis=http://x"}, "scheme", invalid},
		{of("bad", "routes:\n  - {match: POST /a, max_response: 99999999999}\n"), "bad.yaml:4:22: routes[0].max_response: ", invalid},
		{
			of("short", "routes:\n  - {match: POST /a, retention: 1s}\n"),
			"short.yaml:4:22: routes[0].retention: redisidem: Config.Retention (1s) must not be shorter than Config.Lease (10s)", invalid,
		},
		{of("inherited", "routes: [{match: POST /a}]\ndefaults: {max_response: 99999999999}\n"), "inherited.yaml:4:12: defaults.max_response: ", invalid},
		{of("stored", "routes:\n  - {match: POST /a, headers: [Set-Cookie]}\n"), "stored.yaml:4:22: routes[0].headers: ", invalid},
		{of("mark", "routes:\n  - {match: POST /a, replay_header: Date}\n"), "mark.yaml:4:22: routes[0].replay_header: ", invalid},
		{of("method", "routes:\n  - {match: /a, methods: [PO ST]}\n"), "method.yaml:4:27: routes[0].methods[0]: ", invalid},
		{of("page", "policy_url: /page\nroutes: [{match: POST /a}]\n"), "page.yaml:3:1: policy_url: ", invalid},
		{of("brief", "lease: 1ms\n"), "brief.yaml:3:1: lease: ", invalid},
		{of("braces", "namespace: '{a}'\n"), "braces.yaml:3:1: namespace: ", invalid},
		{of("colon", "redis: memory:\n"), "colon.yaml:3:", invalid},
		{of("colon", "redis: memory:\n"), "a value that ends with a colon needs quotes, such as 'memory:'", invalid},
		{of("twice", "routes: [{match: POST /a}, {match: post /a}]\n"), "twice.yaml:3:29: routes[1].match: pattern \"POST /a\" conflicts with pattern \"POST /a\"", invalid},
		{[]string{missing}, "missing.yaml:3:1: jwt_key: open none.pem", invalid},
		{[]string{good, "--scope=tenant"}, "--scope: must be", invalid},
		{nil, "--upstream: must name", invalid},
		{of("unknown", "listen_on: :1\n"), "unknown.yaml:3:1: listen_on: unknown field", invalid},
		{of("negative", "durability: -1\n"), "negative.yaml:3:1: durability: must not be negative: -1", invalid},
		{[]string{"none.yaml"}, "none.yaml: no such file", invalid},
		{of("port", "listen: foo\n"), "port.yaml:3:1: listen: must be an address with a port, such as :8080", invalid},
		{of("ports", "listen: :99999\n"), "ports.yaml:3:1: listen: must be an address with a port, such as :8080", invalid},
		{of("nowhere", "listen: ''\n"), "nowhere.yaml:3:1: listen: must be an address with a port, such as :8080", invalid},
		{of("admin", "admin_listen: localhost\n"), "admin.yaml:3:1: admin_listen: must be an address with a port", invalid},
		{of("same", "listen: :80\nadmin_listen: :80\n"), "same.yaml:4:1: admin_listen: must not be the address of listen", invalid},
		{of("zero", "retention: 0s\n"), "zero.yaml:3:1: retention: must be more than 0s", invalid},
		{of("hold", "max_hold: 0s\n"), "hold.yaml:3:1: max_hold: must be more than 0s", invalid},
		{of("lease", "lease: 0s\n"), "lease.yaml:3:1: lease: must be more than 0s", invalid},
		{of("timeout", "redis_timeout: 0s\n"), "timeout.yaml:3:1: redis_timeout: must be more than 0s", invalid},
		{
			of("held", "lease: 20m\nmax_hold: 1m\n"),
			"held.yaml:4:1: max_hold: must not be shorter than lease (20m0s), since a lease is renewed until then: 1m0s", invalid,
		},
		{
			of("cut", "upstream_timeout: 10m\nwrite_timeout: 1m\n"),
			"cut.yaml:3:1: upstream_timeout: must not be longer than write_timeout (1m0s), at which the client's connection ends: 10m0s", invalid,
		},
		{of("uncut", "upstream_timeout: 10m\nwrite_timeout: 0s\n"), valid, ""},
		{[]string{good, "--upstream-timeout=10m", "--write-timeout=1m"}, "--upstream-timeout: must not be longer than write_timeout", invalid},
		{[]string{good, "--listen-on=:1"}, "unknown flag", usage},
		{[]string{good, "--lease=long"}, "--lease", usage},
	} {
		got := command(t, "127.0.0.1:1", "", slices.Concat([]string{"gateway", "validate"}, c.args)...)
		if !strings.Contains(got, c.want) || strings.Contains(got, "exit status") != (c.status != "") || !strings.Contains(got, c.status) {
			t.Errorf("%v prints %s, want %s%s", c.args, got, c.want, c.status)
		}
	}
}
