package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// identify returns the function that identifies callers, and the challenge for unauthenticated
// callers. trusted are the proxies that may name callers in a header field.
func (c *gatewayCommand) identify(trusted gateway.TrustedProxies, log *slog.Logger) (gateway.Identify, string, error) {
	kind, name, _ := strings.Cut(c.Scope, ":")
	one := issuer{Issuer: c.JWTIssuer, Audience: c.JWTAudience, Key: c.JWTKey, KeySet: c.JWTKeySet, Secret: c.JWTSecret}
	switch {
	case kind != "jwt" && (one != issuer{} || len(c.content.JWTIssuers) > 0):
		return nil, "", configfile.Invalid("scope", "%s takes no token: remove the settings that begin with jwt", c.Scope)
	case kind == "header" && c.ProxyProtocol:
		return nil, "", configfile.Invalid("scope", "cannot be %s with proxy_protocol, since the peers of requests are then the clients, and a client could name any caller", c.Scope)
	case kind == "header" && name != "":
		identify, err := gateway.FromHeader(name, trusted)
		return identify, "", configfile.Within("scope", err)
	case kind == "jwt" && name != "":
		identify, err := c.fromToken(name, one, log)
		return identify, "Bearer", err
	case c.Scope == "certificate":
		if c.TLSClientCA == "" {
			return nil, "", configfile.Invalid("scope", "certificate needs --tls-client-ca")
		}
		return gateway.FromCertificate, "", nil
	case c.Scope == "unscoped":
		return gateway.Unscoped, "", nil
	}
	return nil, "", configfile.Invalid("scope", "must be header:NAME, jwt:CLAIM, certificate or unscoped: %q", c.Scope)
}

// warnOfScope logs a warning if clients can name any caller.
func (c *gatewayCommand) warnOfScope(log *slog.Logger) {
	if !strings.HasPrefix(c.Scope, "header:") || len(c.TrustedProxies) > 0 || c.Upstream == fromEnvoy || isLoopback(c.Listen) {
		return // Envoy and local proxies are the only peers
	}
	log.Warn("a client that reaches --listen directly can name any caller in the header field of --scope: give --trusted-proxy", "scope", c.Scope)
}

// fromToken returns the function that reads a claim of the tokens of one issuer, or of those of
// jwt_issuers.
func (c *gatewayCommand) fromToken(claim string, one issuer, log *slog.Logger) (gateway.Identify, error) {
	tokens := gateway.Tokens{Claim: claim}
	if len(c.content.JWTIssuers) == 0 {
		if one.Key+one.KeySet+one.Secret == "" {
			return nil, configfile.Invalid("scope", "jwt needs --jwt-key, --jwt-jwks or --jwt-secret")
		}
		key, err := c.tokenKey(one, "jwt_", log)
		if err != nil {
			return nil, err
		}
		tokens.Issuers = []gateway.Issuer{{Key: key, Name: one.Issuer, Audience: one.Audience}}
	} else if one != (issuer{}) {
		return nil, configfile.Invalid("jwt_issuers", "cannot be combined with jwt_key, jwt_jwks, jwt_secret, jwt_issuer and jwt_audience")
	}
	tokens.IssuerInScope = len(c.content.JWTIssuers) > 0
	for i, each := range c.content.JWTIssuers {
		field := fmt.Sprintf("jwt_issuers[%d]", i)
		if each.Issuer == "" {
			return nil, configfile.Invalid(field+".issuer", "must name the issuer")
		}
		key, err := c.tokenKey(each, "", log)
		if err != nil {
			return nil, configfile.Within(field, err)
		}
		tokens.Issuers = append(tokens.Issuers, gateway.Issuer{Key: key, Name: each.Issuer, Audience: each.Audience})
	}
	identify, err := gateway.FromToken(tokens)
	return identify, configfile.Within("jwt_issuers", err)
}

// tokenKey returns what verifies the tokens of an issuer, whose fields have names with this prefix.
func (c *gatewayCommand) tokenKey(from issuer, prefix string, log *slog.Logger) (gateway.Verifier, error) {
	switch {
	case from.Key != "" && from.KeySet == "" && from.Secret == "":
		key, err := gateway.ReadPublicKey(from.Key)
		return key, configfile.Within(prefix+"key", err)
	case from.KeySet != "" && from.Key == "" && from.Secret == "":
		set, err := c.keySet(from.KeySet, log)
		return set, configfile.Within(prefix+"jwks", err)
	case from.Secret != "" && from.Key == "" && from.KeySet == "":
		key, err := gateway.ReadSecret(from.Secret)
		return key, configfile.Within(prefix+"secret", err)
	}
	return nil, fmt.Errorf("must have one of %skey, %sjwks and %ssecret", prefix, prefix, prefix)
}

// keySet returns the key set of a file or a URL. A reload keeps the keys that were fetched before.
func (c *gatewayCommand) keySet(name string, log *slog.Logger) (*gateway.KeySet, error) {
	if !gateway.IsURL(name) {
		return gateway.ReadKeySet(name)
	}
	if c.keySets[name] == nil {
		set, err := gateway.NewKeySet(name, log)
		if err != nil {
			return nil, err
		}
		if c.keySets == nil {
			c.keySets = make(map[string]*gateway.KeySet)
		}
		c.keySets[name] = set
	}
	return c.keySets[name], nil
}
