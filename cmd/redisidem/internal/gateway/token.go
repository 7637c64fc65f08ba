package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Tokens configures which JSON Web Tokens (RFC 7519) the gateway accepts.
type Tokens struct {
	// Claim is the claim that holds the scope, a text or a whole number. A claim inside others is a
	// path with dots, such as org.id, unless the token has a claim with that very name.
	Claim string
	// Issuers are the accepted issuers.
	Issuers []Issuer
	// IssuerInScope makes a scope of the issuer's name and the claim, with a space between them, so
	// that two issuers can have the same names for their callers. Each issuer then needs a name
	// without spaces. Several issuers need it. It does not depend on how many there are: with a
	// second issuer, the scopes of the callers of the first must stay what they are.
	IssuerInScope bool
}

// Issuer is an issuer of tokens.
type Issuer struct {
	// Key verifies the signatures.
	Key Verifier
	// Name and Audience are the required values of iss and aud, if they are set.
	Name, Audience string
}

// Verifier has the keys that verify tokens, and the algorithms that they are for: it is a
// [TokenKey] or a [KeySet].
type Verifier interface {
	key(*jwt.Token) (any, error)
	algorithms() []string
}

// FromToken takes the scope from a claim of the bearer token in the Authorization field. The
// signature and the times of the token are verified. A token without an expiry is refused.
func FromToken(t Tokens) (Identify, error) {
	if len(t.Issuers) > 1 && !t.IssuerInScope {
		return nil, errors.New("several issuers need their names in scopes")
	}
	parsers := make([]*jwt.Parser, len(t.Issuers))
	names := make(map[string]int, len(t.Issuers))
	for i, issuer := range t.Issuers {
		options := []jwt.ParserOption{jwt.WithValidMethods(issuer.Key.algorithms()), jwt.WithExpirationRequired(), jwt.WithJSONNumber()}
		if issuer.Name != "" {
			options = append(options, jwt.WithIssuer(issuer.Name))
		}
		if issuer.Audience != "" {
			options = append(options, jwt.WithAudience(issuer.Audience))
		}
		parsers[i] = jwt.NewParser(options...)
		if _, ok := names[issuer.Name]; ok {
			return nil, fmt.Errorf("two issuers have the name %q", issuer.Name)
		}
		names[issuer.Name] = i
		if t.IssuerInScope && (issuer.Name == "" || strings.Contains(issuer.Name, " ")) {
			return nil, fmt.Errorf("each issuer needs a name without spaces: %q", issuer.Name)
		}
	}
	return func(r *http.Request) (string, error) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
			return "", fmt.Errorf("%w: it needs a bearer token", ErrUnauthenticated)
		}
		// The cause of a failure is left out of the error, since it may contain parts of the token.
		invalid := fmt.Errorf("%w: its token is invalid", ErrUnauthenticated)
		i, prefix := 0, ""
		if t.IssuerInScope { // the name selects the keys; they then prove it
			claimed := jwt.MapClaims{}
			_, _, err := parsers[0].ParseUnverified(token, claimed)
			name, _ := claimed["iss"].(string)
			index, known := names[name]
			if err != nil || !known {
				return "", invalid
			}
			i = index
			prefix = name + " "
		}
		claims := jwt.MapClaims{}
		if _, err := parsers[i].ParseWithClaims(token, claims, t.Issuers[i].Key.key); err != nil {
			return "", invalid
		}
		scope, ok := claimText(claims, t.Claim)
		if !ok {
			return "", fmt.Errorf("%w: its token has no text or whole number in the claim %s", ErrUnauthenticated, t.Claim)
		}
		return prefix + scope, nil
	}, nil
}

// claimText returns a text or a whole number of the claims. See [Tokens].
func claimText(claims map[string]any, path string) (string, bool) {
	value, ok := claims[path]
	for !ok {
		var name string
		if name, path, ok = strings.Cut(path, "."); !ok {
			return "", false
		}
		if claims, ok = claims[name].(map[string]any); !ok {
			return "", false
		}
		value, ok = claims[path]
	}
	switch value := value.(type) {
	case string:
		return value, value != ""
	case json.Number:
		return value.String(), !strings.ContainsAny(value.String(), ".eE")
	}
	return "", false
}

// TokenKey is a key that verifies tokens, with the algorithms of its kind. The operator configures
// the kind. If the token or the file decided it, a public key could be used as a secret.
type TokenKey struct {
	value any
	kinds []string
}

// algorithms implements [Verifier].
func (k *TokenKey) algorithms() []string { return k.kinds }

// key implements [Verifier].
func (k *TokenKey) key(*jwt.Token) (any, error) { return k.value, nil }

// minSecretBytes is the minimum length of an HMAC secret in bytes: that of the shortest digest (RFC
// 7518, section 3.2).
const minSecretBytes = 32

// ReadSecret reads an HMAC secret, the bytes of the file as they are. It refuses a file that looks
// like a public key.
func ReadSecret(file string) (*TokenKey, error) {
	secret, err := os.ReadFile(file)
	switch {
	case err != nil:
		return nil, err
	case len(secret) < minSecretBytes:
		return nil, fmt.Errorf("%s: an HMAC secret must have at least %d bytes: %d", file, minSecretBytes, len(secret))
	case looksLikePublicKey(secret):
		return nil, fmt.Errorf("%s: looks like a public key; an HMAC secret must be secret", file)
	}
	return &TokenKey{secret, []string{"HS256", "HS384", "HS512"}}, nil
}

// looksLikePublicKey reports whether a secret has a form in which public keys are published.
func looksLikePublicKey(secret []byte) bool {
	text := strings.TrimSpace(strings.TrimPrefix(string(secret), "\ufeff"))
	switch {
	case strings.Contains(text, "-----BEGIN"), strings.Contains(text, "---- BEGIN"): // PEM, and SSH's own
		return true
	case strings.HasPrefix(text, "{"): // JWK
		return true
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "ecdsa-sha2-"), // OpenSSH
		strings.HasPrefix(text, "sk-ssh-"), strings.HasPrefix(text, "sk-ecdsa-"):
		return true
	}
	// Some authorization servers show only the base64 content of the PEM block.
	middle, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.Join(strings.Fields(text), ""), "="))
	return isPublicDER(secret) || err == nil && isPublicDER(middle)
}

func isPublicDER(der []byte) bool {
	_, key := x509.ParsePKIXPublicKey(der)
	_, rsaKey := x509.ParsePKCS1PublicKey(der)
	_, certificate := x509.ParseCertificate(der)
	return key == nil || rsaKey == nil || certificate == nil
}

// ReadPublicKey reads a public key or a certificate in PEM. It returns an error for a key that
// cannot verify tokens.
func ReadPublicKey(file string) (*TokenKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: has no public key and no certificate in PEM", file)
	}
	public, err := readPublic(block)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	switch public.(type) {
	case *rsa.PublicKey:
		return &TokenKey{public, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}, nil
	case *ecdsa.PublicKey:
		return &TokenKey{public, []string{"ES256", "ES384", "ES512"}}, nil
	case ed25519.PublicKey:
		return &TokenKey{public, []string{"EdDSA"}}, nil
	}
	return nil, fmt.Errorf("%s: a %T cannot verify tokens", file, public)
}

func readPublic(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return c.PublicKey, nil
	}
	// A private key is refused too, since the gateway does not need it.
	return nil, fmt.Errorf("the PEM block %q is not a public key", block.Type)
}
