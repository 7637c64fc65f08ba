package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// ErrUnauthenticated reports that a request does not identify its caller, or does not prove it.
var ErrUnauthenticated = errors.New("the request does not identify its caller")

// Identify returns the caller of a request, which is the scope of its idempotency key. It is called
// concurrently.
type Identify func(*http.Request) (string, error)

// errUntrustedPeer reports that a request names its caller and did not come from a trusted proxy.
var errUntrustedPeer = fmt.Errorf("%w: it did not come from a trusted proxy", ErrUnauthenticated)

// FromHeader takes the scope from a header field. The field is only as trustworthy as its sender. A
// proxy in front of the gateway must authenticate callers and remove the field from their requests.
// If trusted is not empty, the field counts only in the requests of these proxies. Otherwise each
// peer that can reach the listener may name any caller.
//
// Names that cannot identify a caller are refused: credentials, which change and must not be
// stored, the key itself, and fields that a server removes.
func FromHeader(name string, trusted TrustedProxies) (Identify, error) {
	name = http.CanonicalHeaderKey(name)
	switch {
	case !httptoken.Valid(name):
		return nil, fmt.Errorf("%q is not the name of a header field", name)
	case slices.Contains([]string{"Authorization", "Proxy-Authorization", "Cookie"}, name):
		return nil, fmt.Errorf("%s holds credentials, which change and must not be stored; use a field that names the caller", name)
	case slices.Contains([]string{
		idemheader.Key, "X-Idempotency-Key", "Host", "Connection", "Content-Length", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}, name):
		return nil, fmt.Errorf("%s does not identify a caller", name)
	}
	return func(r *http.Request) (string, error) {
		if len(trusted) > 0 && !trusted.trustPeer(r) {
			return "", errUntrustedPeer
		}
		values := r.Header.Values(name)
		if len(values) != 1 || values[0] == "" {
			return "", fmt.Errorf("%w: it needs one header field %s", ErrUnauthenticated, name)
		}
		return values[0], nil
	}, nil
}

// FromCertificate takes the scope from the client certificate that the TLS listener has verified.
// The scope is a digest of the issuer and the subject, so that a renewed certificate has the same
// scope.
func FromCertificate(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", fmt.Errorf("%w: it needs a client certificate", ErrUnauthenticated)
	}
	leaf := r.TLS.VerifiedChains[0][0]
	issuer, subject := sha256.Sum256(leaf.RawIssuer), sha256.Sum256(leaf.RawSubject)
	return hex.EncodeToString(issuer[:]) + hex.EncodeToString(subject[:]), nil
}

// Unscoped puts all callers into one scope: see [httpidem.Unscoped].
func Unscoped(r *http.Request) (string, error) { return httpidem.Unscoped(r) }

// scope is the middleware's scope function.
func (g *generation) scope(r *http.Request) (string, error) {
	scope, err := g.identify(r)
	requestLogOf(r.Context()).untrustedPeer = errors.Is(err, errUntrustedPeer)
	return scope, err
}
