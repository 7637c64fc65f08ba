package console

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// minSecretBytes is the least length of a secret. Shorter ones could be found by trying.
const minSecretBytes = 16

// Credentials are users with their secrets, which are passwords or bearer tokens. Only digests of
// the secrets are kept. They are safe for concurrent use.
type Credentials struct{ all []credential }

type credential struct {
	user          User
	secret, named [sha256.Size]byte // digests: of the secret, and of name and secret
}

// ReadCredentials reads one user from each line: the role, which is viewer or operator, the name,
// and the secret, with spaces between them. A secret has at least 16 bytes and no spaces. Empty
// lines and those that begin with # are left out. It returns an error for a line of another form,
// for a name that is there twice, and if there are no users. No error contains a secret.
func ReadCredentials(r io.Reader) (*Credentials, error) {
	c := &Credentials{}
	names := make(map[string]bool)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) != 3 {
			return nil, fmt.Errorf("line %d must be: ROLE NAME SECRET", n)
		}
		u := User{Name: words[1]}
		switch words[0] {
		case RoleViewer.String():
			u.Role = RoleViewer
		case RoleOperator.String():
			u.Role = RoleOperator
		default:
			return nil, fmt.Errorf("line %d: the role must be viewer or operator", n)
		}
		secret := words[2]
		switch {
		case len(u.Name) > 64:
			return nil, fmt.Errorf("line %d: the name is %d bytes long, more than 64", n, len(u.Name))
		case strings.Contains(u.Name, ":"):
			return nil, fmt.Errorf("line %d: the name must not contain a colon", n)
		case names[u.Name]:
			return nil, fmt.Errorf("line %d: %s is there twice", n, u.Name)
		case len(secret) < minSecretBytes:
			return nil, fmt.Errorf("line %d: the secret is %d bytes long, less than %d", n, len(secret), minSecretBytes)
		}
		names[u.Name] = true
		c.all = append(c.all, credential{user: u, secret: digest(secret), named: digest(u.Name + ":" + secret)})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(c.all) == 0 {
		return nil, errors.New("there are no users")
	}
	return c, nil
}

func digest(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// Basic is an [Authorize] by the name and password of HTTP basic authentication. The time that it
// takes does not depend on the password.
func (c *Credentials) Basic(r *http.Request) (User, bool) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return User{}, false
	}
	return c.find(digest(name+":"+password), func(k *credential) *[sha256.Size]byte { return &k.named })
}

// Bearer is an [Authorize] by the bearer token in the field Authorization. The time that it takes
// does not depend on the token.
func (c *Credentials) Bearer(r *http.Request) (User, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return User{}, false
	}
	return c.find(digest(token), func(k *credential) *[sha256.Size]byte { return &k.secret })
}

// find compares a digest with those of all users.
func (c *Credentials) find(d [sha256.Size]byte, of func(*credential) *[sha256.Size]byte) (u User, ok bool) {
	for i := range c.all {
		if k := &c.all[i]; subtle.ConstantTimeCompare(d[:], of(k)[:]) == 1 {
			u, ok = k.user, true
		}
	}
	return u, ok
}
