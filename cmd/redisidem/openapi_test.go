package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestOpenAPIFragment(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte("defaults: {key: required, keys: uuid, retention: 2h}\nretention: 3h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     []string
		required bool
		format   any
		words    string
	}{
		{[]string{"gateway", "openapi"}, false, nil, "24h0m0s"},
		{[]string{"gateway", "openapi", "--config", file}, true, "uuid", "2h0m0s"},
	} {
		text := command(t, "", "", c.args...)
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		at := func(path string) any {
			var value any = doc
			for name := range strings.SplitSeq(path, "/") {
				inner, _ := value.(map[string]any)
				value = inner[name]
			}
			return value
		}
		if at("components/parameters/IdempotencyKey/required") != c.required ||
			at("components/parameters/IdempotencyKey/schema/format") != c.format || !strings.Contains(text, c.words) {
			t.Errorf("%v prints %s", c.args, text)
		}
		references := regexp.MustCompile(`#/([A-Za-z/]+)'`).FindAllStringSubmatch(text, -1)
		if len(references) < 10 {
			t.Errorf("%d references are found", len(references))
		}
		for _, reference := range references {
			if at(reference[1]) == nil {
				t.Errorf("%s does not exist", reference[1])
			}
		}
	}
}

func TestOpenAPIFragmentHasThePlacesOfKeys(t *testing.T) {
	t.Parallel()
	type parameter struct {
		Name, In string
		Required bool
	}
	for list, want := range map[string]map[string]parameter{
		"[query: event_id]":                   {"IdempotencyKey": {"event_id", "query", true}},
		"[{header: X-Id}, {query: id}]":       {"IdempotencyKey": {"X-Id", "header", false}, "IdempotencyKey2": {"id", "query", false}},
		"[{header: X-Event}, {body: /id}]":    {"IdempotencyKey": {"X-Event", "header", false}},
		"[{body: /data/id}]":                  {},
		"[{header: Idempotency-Key}]":         {"IdempotencyKey": {"Idempotency-Key", "header", true}},
		`[{query: "a 'b\" #c"}, {body: /id}]`: {"IdempotencyKey": {`a 'b" #c`, "query", false}},
	} {
		file := filepath.Join(t.TempDir(), "gateway.yaml")
		if err := os.WriteFile(file, []byte("defaults: {key: required, key_from: "+list+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := command(t, "", "", "gateway", "openapi", "--config", file)
		var doc struct {
			Components struct{ Parameters map[string]parameter }
		}
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatalf("%s: %v: %s", list, err, text)
		}
		if !maps.Equal(doc.Components.Parameters, want) {
			t.Errorf("%s: the parameters are %+v", list, doc.Components.Parameters)
		}
		for component := range want {
			if !strings.Contains(text, "#     - $ref: '#/components/parameters/"+component+"'\n") {
				t.Errorf("%s: %s is not explained: %s", list, component, text)
			}
		}
		if strings.Contains(list, "body") != strings.Contains(text, "in its JSON body at /") {
			t.Errorf("%s: %s", list, text)
		}
	}
}

// TestOpenAPIFragmentOfTheStripeProfile has a route with another place of its key, and another
// field that marks replays.
func TestOpenAPIFragmentOfTheStripeProfile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	config := "defaults: {profile: stripe, replay_header: X-Replayed}\nroutes: [{match: POST /a}, {match: POST /hook, key: required, key_from: [{header: Webhook-Id}, {body: /id}]}]\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	text := command(t, "", "", "gateway", "openapi", "--config", file)
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, words := range []string{
		"application/json", "idempotency_error", "name: \"Webhook-Id\"", "X-Replayed: {$ref",
		"- $ref: '#/components/parameters/IdempotencyKey2' # only of POST /hook", "in its JSON body at /id (only of POST /hook)",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("%q is not in %s", words, text)
		}
	}
	for _, words := range []string{"problem+json", "422", "Idempotency-Replayed", "IdempotencyKey3"} {
		if strings.Contains(text, words) {
			t.Errorf("%q is in %s", words, text)
		}
	}
}

// TestProblemsAreThoseOfTheFragment validates answers of a gateway.
func TestProblemsAreThoseOfTheFragment(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas struct {
				Problem any `yaml:"Problem"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(command(t, "", "", "gateway", "openapi")), &doc); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("problem.json", doc.Components.Schemas.Problem); err != nil {
		t.Fatal(err)
	}
	problem, err := compiler.Compile("problem.json")
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	up := newUpstream(t, hold)
	p := start(t, "", "--upstream", up.URL, "--scope", "unscoped")
	send := func(key, body string) (*http.Response, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/orders", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		r.Header.Set("Idempotency-Key", key)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		return res, text
	}
	first := make(chan struct{})
	go func() {
		defer close(first)
		send("k", "book")
	}()
	<-up.began
	for _, c := range []struct {
		key, body string
		status    int
	}{{`"`, "", 400}, {"k", "book", 409}, {"k", "other", 422}} {
		res, text := send(c.key, c.body)
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		if err := problem.Validate(value); err != nil || res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v %s: %v", res.StatusCode, res.Header, text, err)
		}
		if (res.Header.Get("Retry-After") != "") != (c.status == 409) {
			t.Errorf("%d has the Retry-After %q", c.status, res.Header.Get("Retry-After"))
		}
	}
	close(hold)
	<-first
}
