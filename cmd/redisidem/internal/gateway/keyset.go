package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// The bounds of the calls for a key set at a URL.
const (
	keySetTimeout  = 5 * time.Second
	keySetInterval = 10 * time.Second // between calls
	keySetAge      = 15 * time.Minute // after which a set is fetched again
	maxKeySetBytes = 1 << 20
)

// KeySet is a JSON Web Key Set (RFC 7517) whose public keys verify tokens by their kid. It is safe
// for concurrent use.
type KeySet struct {
	url     string // empty for a file
	client  *http.Client
	log     *slog.Logger
	current atomic.Pointer[fetchedKeys]

	fetching sync.Mutex // held during a fetch
	tried    time.Time  // of the last fetch; fetching guards it
}

// fetchedKeys are the keys of a set at a time.
type fetchedKeys struct {
	keys keyfunc.Keyfunc
	at   time.Time
}

// ReadKeySet returns the key set of a file.
func ReadKeySet(file string) (*KeySet, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeySet(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &KeySet{}
	s.current.Store(&fetchedKeys{keys: keys})
	return s, nil
}

// NewKeySet returns the key set at an http:// or https:// URL. It is fetched when the first token
// needs it, again when a token has an unknown kid, and again after 15 minutes. There are at least
// 10 s between calls, and each takes at most 5 s. If one fails, the earlier keys stay in use. A
// redirect from https to http fails.
func NewKeySet(address string, log *slog.Logger) (*KeySet, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the key set is not at an http:// or https:// URL")
	}
	return &KeySet{url: address, client: &http.Client{CheckRedirect: checkRedirect}, log: log}, nil
}

// maxRedirects is how many redirects a fetch follows, as in net/http.
const maxRedirects = 10

// checkRedirect returns an error for a redirect that the fetch of a key set does not follow. Who
// can change an answer without TLS could sign tokens.
func checkRedirect(next *http.Request, earlier []*http.Request) error {
	switch {
	case earlier[len(earlier)-1].URL.Scheme == "https" && next.URL.Scheme != "https":
		return errors.New("its server redirects from https to " + next.URL.Scheme)
	case len(earlier) >= maxRedirects:
		return fmt.Errorf("its server redirects more than %d times", maxRedirects)
	}
	return nil
}

// parseKeySet parses a set. Keys that cannot verify tokens are left out.
func parseKeySet(text []byte) (keyfunc.Keyfunc, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	keys := jwkset.NewMemoryStorage()
	n := 0
	for i := range set.Keys {
		marshalled := &set.Keys[i]
		if marshalled.KTY == jwkset.KtyOct { // a secret, which a set for many readers cannot have
			continue
		}
		key, err := jwkset.NewJWKFromMarshal(*marshalled, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if errors.Is(err, jwkset.ErrUnsupportedKey) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", marshalled.KID, err)
		}
		if err := keys.KeyWrite(context.Background(), key); err != nil {
			return nil, err
		}
		n++
	}
	if n == 0 {
		return nil, errors.New("the key set has no public keys")
	}
	return keyfunc.New(keyfunc.Options{Storage: keys, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
}

// algorithms implements [Verifier].
func (s *KeySet) algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// key implements [Verifier]. It blocks for up to two fetches.
func (s *KeySet) key(token *jwt.Token) (any, error) {
	// Without a kid, keys would be tried that are not for signatures.
	if id, _ := token.Header[jwkset.HeaderKID].(string); id == "" {
		return nil, errors.New("the token does not name its key")
	}
	now := s.current.Load()
	if now != nil && s.url != "" && time.Since(now.at) > keySetAge && s.fetching.TryLock() { // other requests use the old keys
		s.fetch()
		s.fetching.Unlock()
		now = s.current.Load()
	}
	if now != nil {
		key, err := now.keys.Keyfunc(token)
		if s.url == "" || !errors.Is(err, jwkset.ErrKeyNotFound) {
			return key, err
		}
	}
	s.fetching.Lock()
	defer s.fetching.Unlock()
	if s.current.Load() == now { // no other request has fetched it meanwhile
		s.fetch()
	}
	if now = s.current.Load(); now == nil {
		return nil, errors.New("the key set could not be fetched")
	}
	return now.keys.Keyfunc(token)
}

// fetch fetches the set, unless the last fetch is too recent. The caller holds fetching.
func (s *KeySet) fetch() {
	if !s.tried.IsZero() && time.Since(s.tried) < keySetInterval {
		return
	}
	keys, err := s.get()
	s.tried = time.Now()
	if err != nil {
		s.log.Warn("the key set for tokens was not fetched", "error", err)
		return
	}
	s.current.Store(&fetchedKeys{keys, s.tried})
}

func (s *KeySet) get() (keyfunc.Keyfunc, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keySetTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Close = true // calls are rare
	res, err := s.client.Do(r)
	if err != nil {
		return nil, errors.Unwrap(err) // without the URL, which may contain a secret
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its server answered with the status %d", res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeySetBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeySetBytes)
	}
	return parseKeySet(text)
}

// IsURL reports whether the name of a key set is a URL and not a file.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}
