package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Tokens configures which JSON Web Tokens (RFC 7519) the gateway accepts.
type Tokens struct {
	// Key verifies the signatures.
	Key *TokenKey
	// Claim is the name of the claim that holds the scope.
	Claim string
	// Issuer and Audience are the required values, if they are set.
	Issuer, Audience string
}

// FromToken takes the scope from a claim of the bearer token in the Authorization field. The
// signature and the times of the token are verified. A token without an expiry is refused.
func FromToken(t Tokens) Identify {
	options := []jwt.ParserOption{jwt.WithValidMethods(t.Key.algorithms), jwt.WithExpirationRequired()}
	if t.Issuer != "" {
		options = append(options, jwt.WithIssuer(t.Issuer))
	}
	if t.Audience != "" {
		options = append(options, jwt.WithAudience(t.Audience))
	}
	parser := jwt.NewParser(options...)
	return func(r *http.Request) (string, error) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
			return "", fmt.Errorf("%w: it needs a bearer token", ErrUnauthenticated)
		}
		claims := jwt.MapClaims{}
		if _, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return t.Key.key, nil }); err != nil {
			return "", fmt.Errorf("%w: its token is invalid", ErrUnauthenticated) // the cause is left out, since it may contain parts of the token
		}
		scope, ok := claims[t.Claim].(string)
		if !ok || scope == "" {
			return "", fmt.Errorf("%w: its token has no text in the claim %s", ErrUnauthenticated, t.Claim)
		}
		return scope, nil
	}
}

// TokenKey is a key that verifies tokens, with the algorithms of its kind. The operator configures
// the kind. If the token or the file decided it, a public key could be used as a secret.
type TokenKey struct {
	key        any
	algorithms []string
}

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
