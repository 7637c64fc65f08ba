package gateway

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestGatewayTakesTheScopeFromAVerifiedToken(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	key, err := ReadPublicKey(file)
	if err != nil {
		t.Fatal(err)
	}
	b := setUp(t, "", fromToken(t, Tokens{Claim: "tenant", Issuers: []Issuer{{Key: key, Name: "login", Audience: "orders"}}}))
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"iss": "login", "aud": "orders", "exp": time.Now().Add(time.Hour).Unix(), "tenant": "acme"}
		change(c)
		return c
	}
	sign := func(method jwt.SigningMethod, key any, c jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	good := sign(jwt.SigningMethodEdDSA, private, claims(func(jwt.MapClaims) {}))
	other := sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["tenant"] = "other" }))
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", good), 201, "order 1", false)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", good), 201, "order 1", true)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", other), 201, "order 2", false)
	for name, token := range map[string]string{
		"none":           "",
		"no bearer":      "Basic abc",
		"garbage":        "Bearer a.b.c",
		"expired":        sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() })),
		"no expiry":      sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { delete(c, "exp") })),
		"wrong issuer":   sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["iss"] = "evil" })),
		"wrong audience": sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["aud"] = "mail" })),
		"no claim":       sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { delete(c, "tenant") })),
		"fraction":       sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["tenant"] = 7.5 })),
		"list":           sign(jwt.SigningMethodEdDSA, private, claims(func(c jwt.MapClaims) { c["tenant"] = []string{"acme"} })),
		"unsigned":       sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(func(jwt.MapClaims) {})),
		// The public key taken for an HMAC secret, the oldest trick.
		"confused": sign(jwt.SigningMethodHS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), claims(func(jwt.MapClaims) {})),
	} {
		got := b.send("POST", "/", "", "Idempotency-Key", "k", "Authorization", token)
		if got.status != 401 || got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
	if n := b.runs.Load(); n != 2 {
		t.Errorf("the upstream ran %d requests", n)
	}
}

// TestPublicKeyIsNeverAnHMACSecret offers public keys in the forms in which they are handed out:
// who knows one could sign.
func TestPublicKeyIsNeverAnHMACSecret(t *testing.T) {
	t.Parallel()
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, &curve.PublicKey, curve)
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	base := base64.StdEncoding.EncodeToString(der)
	for name, text := range map[string]string{
		"PEM":              text,
		"indented PEM":     "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "),
		"DER":              string(der),
		"PKCS #1":          string(x509.MarshalPKCS1PublicKey(&modulus.PublicKey)),
		"certificate":      string(certificate),
		"Base64":           base + "\n",
		"Base64 in lines":  base[:64] + "\r\n" + base[64:],
		"JWK":              ` {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
		"OpenSSH":          "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK",
		"OpenSSH, NIST":    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB",
		"RFC 4716":         "---- BEGIN SSH2 PUBLIC KEY ----\nAAAAC3NzaC1lZDI1NTE5AAAAIKKKKKKKK\n---- END SSH2 PUBLIC KEY ----\n",
		"PEM private key":  "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n",
		"too short a text": strings.Repeat("s", 31),
	} {
		file := writeFile(t, "key", text)
		if _, err := ReadSecret(file); err == nil {
			t.Errorf("%s is taken for a secret", name)
		}
		if _, err := ReadPublicKey(file); (err == nil) != (name == "PEM") {
			t.Errorf("%s as a public key: %v", name, err)
		}
	}
	for name, secret := range map[string]string{
		"hexadecimal": strings.Repeat("0f", 32) + "\n",
		"Base64":      base64.StdEncoding.EncodeToString(make([]byte, 48)),
		"bytes":       string(make([]byte, 32)),
	} {
		if _, err := ReadSecret(writeFile(t, "key", secret)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fromToken is FromToken for a configuration without mistakes.
func fromToken(t testing.TB, tokens Tokens) Identify {
	t.Helper()
	identify, err := FromToken(tokens)
	if err != nil {
		t.Fatal(err)
	}
	return identify
}

func TestClaims(t *testing.T) {
	t.Parallel()
	claims := map[string]any{
		"sub": "ann", "tenant": json.Number("7"), "float": json.Number("7.5"), "power": json.Number("7e3"), "empty": "", "on": true,
		"org": map[string]any{"id": json.Number("12"), "unit": map[string]any{"name": "books"}, "a.b": "dotted"}, "https://x.example/org": "url",
		"org.name": "exact",
	}
	for path, want := range map[string]string{
		"sub": "ann", "tenant": "7", "org.id": "12", "org.unit.name": "books", "org.a.b": "dotted", "https://x.example/org": "url",
		"org.name": "exact", "float": "", "power": "", "empty": "", "on": "", "org": "", "org.none": "", "none": "", "sub.x": "", "org.": "",
	} {
		if got, ok := claimText(claims, path); ok != (want != "") || ok && got != want {
			t.Errorf("%s is %q %v, want %q", path, got, ok, want)
		}
	}
}
