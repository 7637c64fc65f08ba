package console_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/console"
)

const users = `
# role name secret
viewer   bob  bob-s-secret-1234
operator ann  ann-s-secret-1234
`

func TestCredentialsIdentifyUsers(t *testing.T) {
	t.Parallel()
	c, err := console.ReadCredentials(strings.NewReader(users))
	if err != nil {
		t.Fatal(err)
	}
	bob, ann := console.User{Name: "bob", Role: console.RoleViewer}, console.User{Name: "ann", Role: console.RoleOperator}
	for _, test := range []struct {
		name, password string
		want           console.User
	}{
		{"bob", "bob-s-secret-1234", bob},
		{"ann", "ann-s-secret-1234", ann},
		{"ann", "bob-s-secret-1234", console.User{}},
		{"ann", "", console.User{}},
		{"", "ann-s-secret-1234", console.User{}},
		{"", "ann:ann-s-secret-1234", console.User{}},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.SetBasicAuth(test.name, test.password)
		if u, ok := c.Basic(r); u != test.want || ok != (test.want.Name != "") {
			t.Errorf("%s with %s: %+v, %v", test.name, test.password, u, ok)
		}
		if u, ok := c.Bearer(r); ok {
			t.Errorf("the password of %+v is taken for a token", u)
		}
	}
	for field, want := range map[string]console.User{
		"Bearer ann-s-secret-1234": ann, "bearer bob-s-secret-1234": bob,
		"Bearer": {}, "Bearer ": {}, "": {}, "Bearer ann-s-secret-123": {}, "Token ann-s-secret-1234": {}, "Bearer ann:ann-s-secret-1234": {},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("Authorization", field)
		if u, ok := c.Bearer(r); u != want || ok != (want.Name != "") {
			t.Errorf("%q: %+v, %v", field, u, ok)
		}
		if u, ok := c.Basic(r); ok {
			t.Errorf("the token of %+v is taken for a password", u)
		}
	}
}

func TestReadCredentialsRefusesBadInput(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              "no users",
		"# nothing\n":                   "no users",
		"viewer bob":                    "line 1 must be: ROLE NAME SECRET",
		"viewer bob long-secret-1234 x": "line 1 must be",
		"\nadmin bob long-secret-12345": "line 2: the role must be viewer or operator",
		"viewer bob short-secret":       "12 bytes long, less than 16",
		"viewer b:b long-secret-12345":  "colon",
		"viewer bob long-secret-12345\noperator bob long-secret-12346":   "bob is there twice",
		"viewer " + strings.Repeat("b", 65) + " long-secret-12345":       "65 bytes long, more than 64",
		"viewer bob " + strings.Repeat("long-secret", 10_000) + "\nnext": "too long",
	} {
		_, err := console.ReadCredentials(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		} else if strings.Contains(err.Error(), "long-secret") || strings.Contains(err.Error(), "short-secret") {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}
