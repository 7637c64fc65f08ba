package gateway

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signer signs tokens with a key that a set can have.
type signer struct {
	kid     string
	private ed25519.PrivateKey
	jwk     string
}

func newSigner(t *testing.T, kid string) *signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","use":"sig","kid":%q,"x":%q}`, kid, base64.RawURLEncoding.EncodeToString(public))
	return &signer{kid, private, jwk}
}

// sign returns a token of an issuer for a caller.
func (s *signer) sign(t *testing.T, issuer string, caller any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer, "exp": time.Now().Add(time.Hour).Unix(), "org": map[string]any{"id": caller},
	})
	token.Header["kid"] = s.kid
	text, err := token.SignedString(s.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func setOf(signers ...*signer) string {
	keys := []string{
		`{"kty":"OKP","crv":"Ed448","kid":"unsupported","x":"AA"}`, `{"kty":"oct","kid":"secret","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}`,
	}
	for _, s := range signers {
		keys = append(keys, s.jwk)
	}
	return `{"keys":[` + strings.Join(keys, ",") + `]}`
}

// identified returns the caller of a request with a token.
func identified(identify Identify, token string) (string, error) {
	return identify(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}})
}

func TestKeySetOfAFile(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t, "one"), newSigner(t, "two")
	stranger := newSigner(t, "one")
	set, err := ReadKeySet(writeFile(t, "jwks.json", setOf(one, two)))
	if err != nil {
		t.Fatal(err)
	}
	identify := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: set}}})
	for _, s := range []*signer{one, two} {
		if scope, err := identified(identify, s.sign(t, "login", 7)); err != nil || scope != "7" {
			t.Errorf("%s: the scope is %q, %v", s.kid, scope, err)
		}
	}
	secret := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix(), "org": map[string]any{"id": "x"}})
	secret.Header["kid"] = "secret"
	forged, err := secret.SignedString([]byte("secretsecretsecretsecretsecretsecret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another key with the kid": stranger.sign(t, "login", 7), "an unknown kid": newSigner(t, "three").sign(t, "login", 7), "a secret": forged,
	} {
		if scope, err := identified(identify, token); err == nil {
			t.Errorf("%s is accepted as %q", name, scope)
		}
	}
}

func TestKeySetsThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "not a JSON Web Key Set", "[]": "not a JSON Web Key Set", "{}": "no public keys", setOf(): "no public keys",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"short","x":"AA"}]}`: "short",
	} {
		if _, err := ReadKeySet(writeFile(t, "jwks.json", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", text, err, want)
		}
	}
	for _, address := range []string{"ftp://x/keys", "https://", "keys.json", "https://%zz"} {
		if _, err := NewKeySet(address, nil); err == nil {
			t.Errorf("%s is accepted", address)
		}
	}
}

func TestKeySetIsFetchedForAnUnknownKey(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t, "one"), newSigner(t, "two")
	var set atomic.Pointer[string]
	var fetches atomic.Int64
	publish := func(text string) { set.Store(&text) }
	publish(setOf(one))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		if *set.Load() == "" {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = io.WriteString(w, *set.Load())
	}))
	t.Cleanup(server.Close)
	keys, err := NewKeySet(server.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	identify := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: keys}}})
	accepted := func(what string, s *signer, want bool, wantFetches int64) {
		t.Helper()
		var all sync.WaitGroup
		for range 20 { // at once
			all.Go(func() {
				if scope, err := identified(identify, s.sign(t, "login", "acme")); (err == nil) != want || want && scope != "acme" {
					t.Errorf("%s: the scope is %q, %v", what, scope, err)
				}
			})
		}
		all.Wait()
		if n := fetches.Load(); n != wantFetches {
			t.Errorf("%s: %d fetches, want %d", what, n, wantFetches)
		}
	}
	earlier := func(d time.Duration) { // as if the last fetch was earlier
		keys.fetching.Lock()
		defer keys.fetching.Unlock()
		keys.tried = keys.tried.Add(-d)
		if now := keys.current.Load(); now != nil {
			keys.current.Store(&fetchedKeys{now.keys, now.at.Add(-d)})
		}
	}
	accepted("the first token", one, true, 1)
	publish(setOf(one, two))
	accepted("a new key at once", two, false, 1)
	earlier(keySetInterval)
	accepted("a new key", two, true, 2)
	accepted("a token without its key, at once", newSigner(t, "three"), false, 2)
	publish("")
	earlier(keySetAge)
	accepted("an old set that cannot be fetched", one, true, 3)
	publish(setOf(two))
	earlier(keySetAge)
	if _, err := identified(identify, one.sign(t, "login", "acme")); err == nil {
		t.Error("a key that was withdrawn is accepted")
	}
	publish(strings.Repeat(" ", maxKeySetBytes) + setOf(one))
	earlier(keySetInterval)
	accepted("a set that is too large", one, false, 5)
}

func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	a, b := newSigner(t, "k"), newSigner(t, "k")
	keys := func(s *signer) *KeySet {
		set, err := ReadKeySet(writeFile(t, "jwks.json", setOf(s)))
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	identify := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: keys(a), Name: "https://a"}, {Key: keys(b), Name: "https://b"}}, IssuerInScope: true})
	alone := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: keys(a), Name: "https://a"}}, IssuerInScope: true})
	if scope, err := identified(alone, a.sign(t, "https://a", "acme")); err != nil || scope != "https://a acme" {
		t.Errorf("with one issuer the scope is %q, %v", scope, err)
	}
	for _, c := range []struct{ token, want string }{
		{a.sign(t, "https://a", "acme"), "https://a acme"},
		{b.sign(t, "https://b", "acme"), "https://b acme"},
		{a.sign(t, "https://b", "acme"), ""},
		{a.sign(t, "https://c", "acme"), ""},
		{a.sign(t, "", "acme"), ""},
		{"x", ""},
	} {
		if scope, err := identified(identify, c.token); scope != c.want || (err == nil) != (c.want != "") {
			t.Errorf("the scope is %q, %v, want %q", scope, err, c.want)
		}
	}
	for name, issuers := range map[string][]Issuer{
		"the same name": {{Key: keys(a), Name: "a"}, {Key: keys(b), Name: "a"}},
		"no name":       {{Key: keys(a), Name: "a"}, {Key: keys(b)}},
		"a space":       {{Key: keys(a), Name: "a"}, {Key: keys(b), Name: "a b"}},
	} {
		if _, err := FromToken(Tokens{Claim: "sub", Issuers: issuers, IssuerInScope: true}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := FromToken(Tokens{Claim: "sub", Issuers: []Issuer{{Key: keys(a), Name: "a"}, {Key: keys(b), Name: "b"}}}); err == nil {
		t.Error("several issuers without their names in scopes are accepted")
	}
}

func TestKeySetIsNotFetchedWithoutTLSAfterARedirect(t *testing.T) {
	t.Parallel()
	one := newSigner(t, "one")
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, setOf(one)) }))
	t.Cleanup(plain.Close)
	var target atomic.Pointer[string]
	var hops atomic.Int64
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops.Add(1)
		if r.URL.Path == "/set" {
			_, _ = io.WriteString(w, setOf(one))
			return
		}
		http.Redirect(w, r, *target.Load(), http.StatusFound)
	}))
	t.Cleanup(secure.Close)
	for where, c := range map[string]struct {
		accepted bool
		log      string
	}{
		plain.URL: {false, "redirects from https to http"}, secure.URL + "/set": {true, ""}, secure.URL + "/again": {false, "redirects more than 10 times"},
	} {
		target.Store(&where)
		hops.Store(0)
		var log buffer
		keys, err := NewKeySet(secure.URL+"/again", slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		keys.client.Transport = secure.Client().Transport
		identify := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: keys}}})
		if _, err := identified(identify, one.sign(t, "login", "acme")); (err == nil) != c.accepted || !strings.Contains(log.String(), c.log) {
			t.Errorf("a redirect to %s: %v, %s", where, err, log.String())
		}
		if n := hops.Load(); n > maxRedirects {
			t.Errorf("a redirect to %s: %d requests", where, n)
		}
	}
}

func TestTokensMustNameTheirKeyInASet(t *testing.T) {
	t.Parallel()
	one := newSigner(t, "one")
	var fetches atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = io.WriteString(w, setOf(one))
	}))
	t.Cleanup(server.Close)
	file, err := ReadKeySet(writeFile(t, "jwks.json", setOf(one)))
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := NewKeySet(server.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]*KeySet{"a file": file, "a URL": fetched} {
		identify := fromToken(t, Tokens{Claim: "org.id", Issuers: []Issuer{{Key: keys}}})
		for _, kid := range []any{nil, "", 7, "one"} {
			token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix(), "org": map[string]any{"id": "acme"}})
			if kid != nil {
				token.Header["kid"] = kid
			}
			text, err := token.SignedString(one.private)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := identified(identify, text); (err == nil) != (kid == "one") {
				t.Errorf("%s: a token with the kid %v: %v", name, kid, err)
			}
			if kid != "one" && fetches.Load() != 0 {
				t.Errorf("%s: a token with the kid %v leads to a fetch", name, kid)
			}
		}
	}
}
