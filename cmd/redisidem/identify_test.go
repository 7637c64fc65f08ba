package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestIssuersThatAreRefused(t *testing.T) {
	t.Parallel()
	const good = "upstream: http://x\nscope: jwt:sub\n"
	for text, want := range map[string]string{
		good:                         "gateway.yaml:2:1: scope: jwt needs --jwt-key, --jwt-jwks or --jwt-secret",
		good + "jwt_jwks: none.json": "gateway.yaml:3:1: jwt_jwks: open none.json",
		good + "jwt_jwks: 'http://'": "gateway.yaml:3:1: jwt_jwks: the key set is not at",
		good + "jwt_issuers: [{issuer: a, jwks: 'https://a', secret: s}]":                          "gateway.yaml:3:15: jwt_issuers[0]: must have one of",
		good + "jwt_issuers: [{issuer: a}]":                                                        "gateway.yaml:3:15: jwt_issuers[0]: must have one of",
		good + "jwt_issuers: [{jwks: 'https://a'}]":                                                "gateway.yaml:3:15: jwt_issuers[0].issuer: must name",
		good + "jwt_issuers: [{issuer: a, key: none.pem}]":                                         "gateway.yaml:3:27: jwt_issuers[0].key: open none.pem",
		good + "jwt_issuers: [{issuer: a, jwks: 'https://a'}, {issuer: a, jwks: 'https://b'}]":     "gateway.yaml:3:1: jwt_issuers: two issuers",
		good + "jwt_issuers: [{issuer: a, jwks: 'https://a'}]\njwt_jwks: https://b":                "gateway.yaml:3:1: jwt_issuers: cannot be combined",
		"upstream: http://x\nscope: unscoped\njwt_issuers: [{issuer: a, jwks: 'https://a'}]":       "gateway.yaml:2:1: scope: unscoped takes no token",
		"upstream: http://x\nscope: unscoped\ntrusted_proxy: [10.0.0.1/8]":                         "gateway.yaml:3:1: trusted_proxy: ",
		"upstream: http://x\nscope: unscoped\nspool_above: 70000":                                  "gateway.yaml:3:1: spool_above: needs --spool-dir",
		"upstream: http://x\nscope: unscoped\nspool_bytes: 70000":                                  "gateway.yaml:3:1: spool_bytes: needs --spool-dir",
		"upstream: http://x\nscope: unscoped\nproxy_protocol: true":                                "gateway.yaml:3:1: proxy_protocol: needs --trusted-proxy",
		"upstream: http://x\nproxy_protocol: true\ntrusted_proxy: [10.0.0.1]\nscope: header:X-A":   "gateway.yaml:4:1: scope: cannot be header:X-A with proxy_protocol",
		"upstream: http://x\nscope: unscoped\nencryption_key_file: none":                           "gateway.yaml:3:1: encryption_key_file: open none",
		"upstream: http://x\nscope: unscoped\nscope_keys: 1\nroutes: [{match: POST /a, wait: 1w}]": "gateway.yaml:4:27: routes[0].wait: ",
	} {
		c, err := configured(t, text, "--config=CONFIG")
		if err == nil {
			_, err = c.assemble(nil, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}

func TestReloadKeepsFetchedKeySets(t *testing.T) {
	t.Parallel()
	now := &gatewayCommand{}
	first, err := now.keySet("https://a", nil)
	if err != nil {
		t.Fatal(err)
	}
	next := &gatewayCommand{keySets: now.keySets}
	if again, err := next.keySet("https://a", nil); err != nil || again != first {
		t.Errorf("the key set is another one, %v", err)
	}
	if other, err := next.keySet("https://b", nil); err != nil || other == first {
		t.Errorf("two URLs have one key set, %v", err)
	}
}

func TestScopeOfAHeaderThatEveryClientCanSetIsAWarning(t *testing.T) {
	t.Parallel()
	const scope, everywhere = "--scope=header:X-Tenant", "--listen=:8080"
	for _, c := range []struct {
		args  []string
		warns bool
	}{
		{[]string{scope, everywhere}, true},
		{[]string{scope}, true},
		{[]string{scope, everywhere, "--trusted-proxy=10.0.0.0/8"}, false},
		{[]string{scope, "--listen=127.0.0.1:8080"}, false},
		{[]string{scope, everywhere, "--upstream=envoy:"}, false},
		{[]string{"--scope=unscoped", everywhere}, false},
	} {
		g, err := parseGateway(append([]string{"gateway"}, c.args...))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		g.warnOfScope(slog.New(slog.NewTextHandler(&b, nil)))
		if strings.Contains(b.String(), "can name any caller") != c.warns {
			t.Errorf("%q: the log has %q", c.args, b.String())
		}
	}
}
