package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzRoutes checks that routes are refused or understood in full: each route has a whole
// policy of known words, and a request is found to be of a route that is there.
func FuzzRoutes(f *testing.F) {
	for _, s := range []string{
		"", "{}", "defaults:\n  keep: all\n", "routes:\n- match: POST /a/{id}\n  wait: 3s\n- match: /a/\n  protect: false\n",
		"routes:\n- match: POST /a\n  interrupted: ask\n  ask: /a/{key}\n", "routes:\n- match: '{'\n", "routes:\n- match: /a\n- match: /a\n",
		"defaults: null\nroutes: null\n", "defaults:\n  wait: -1s\n", "unknown: 1\n", "routes: &a\n- match: /a\n  methods: []\n", "---\n{}\n---\n{}\n",
		"defaults:\n  key_window: 1h\n  keys: any\n", "routes:\n- {match: /a, fingerprint: {fields: [a.b]}}\n", "a: &a [*a]\n", "routes:\n-\n",
	} {
		f.Add([]byte(s), "POST", "/a/b")
	}
	f.Fuzz(func(t *testing.T, text []byte, method, path string) {
		routes, err := readRoutes(string(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "gateway.yaml:") {
				t.Fatalf("the error has no position: %v", err)
			}
			return
		}
		for i := range routes.Routes {
			if err := routes.Routes[i].validate(); err != nil {
				t.Fatalf("%q is accepted with %v", text, err)
			}
		}
		again, err := readRoutes(string(text))
		if err != nil || len(again.Routes) != len(routes.Routes) {
			t.Fatalf("%q was read in another way: %v", text, err)
		}
		mux, err := routes.matcher()
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := routes.find(mux, &http.Request{Method: method, URL: &url.URL{Path: path}}); n < -1 || n >= len(routes.Routes) {
			t.Fatalf("route %d of %d", n, len(routes.Routes))
		}
	})
}

// FuzzToken checks that a token proves its caller exactly when the key has signed it, and that a
// scope is the claim's text.
func FuzzToken(f *testing.F) {
	secret := strings.Repeat("s", 32)
	file := filepath.Join(f.TempDir(), "key")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		f.Fatal(err)
	}
	key, err := ReadSecret(file)
	if err != nil {
		f.Fatal(err)
	}
	identify := fromToken(f, Tokens{Claim: "sub", Issuers: []Issuer{{Key: key}}})
	sign := func(method jwt.SigningMethod, key any, subject string) string {
		token, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": subject, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
		if err != nil {
			f.Fatal(err)
		}
		return token
	}
	unsigned := sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "a")
	good := sign(jwt.SigningMethodHS256, []byte(secret), "a")
	parts := strings.Split(good, ".")
	for _, s := range []string{
		"", "Bearer", "Bearer ", "Bearer " + unsigned, "bearer " + good[:len(good)-1], "Basic " + good, "Bearer " + good + ".",
		"Bearer " + parts[0] + "." + parts[1] + ".", "Bearer " + strings.Repeat(".", 100), "Bearer eyJhbGciOiJub25lIn0.e30.",
	} {
		f.Add(s, "subject")
	}
	f.Fuzz(func(t *testing.T, authorization, subject string) {
		ask := func(lines ...string) (string, error) {
			return identify(&http.Request{Header: http.Header{"Authorization": lines}})
		}
		scope, err := ask(authorization)
		if (err == nil) != (scope != "") || err != nil && !errors.Is(err, ErrUnauthenticated) {
			t.Fatalf("%q is %q, %v", authorization, scope, err)
		}
		// A signature is not found by chance: a token that is accepted begins with what was signed
		// here.
		if err == nil && !slices.Contains(strings.Split(authorization, "."), parts[2]) {
			t.Fatalf("%q is accepted as %q", authorization, scope)
		}
		own := sign(jwt.SigningMethodHS256, []byte(secret), subject)
		scope, err = ask("Bearer " + own)
		if subject == "" != (err != nil) || err == nil && scope != strings.ToValidUTF8(subject, "\ufffd") && validUTF8(subject) {
			t.Fatalf("%q is %q, %v", subject, scope, err)
		}
		if _, err := ask("Bearer "+own, authorization); err == nil {
			t.Fatal("two fields are accepted")
		}
	})
}

// validUTF8 says whether a text can stand in JSON as it is.
func validUTF8(s string) bool { return strings.ToValidUTF8(s, "") == s }
