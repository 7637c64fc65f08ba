package httpidem

import (
	"crypto/sha256"
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// keyedRequest is a request with a key: the values that the service needs to run it, and the writer
// of its response.
type keyedRequest struct {
	middleware *Middleware
	w          http.ResponseWriter
	r          *http.Request
	echo       [1]string // the key in the form that the client used, or empty if it cannot be read
	key        string
	scope      *redisidem.Scope
	request    redisidem.Request
	version    [1]byte // of the fingerprint in request
	sum        [sha256.Size]byte
	digest     Digest
	body       []byte
	slot       quotaSlot // in the quota of its scope
}

// check checks a request whose key is k, and fills in the values to run it with. It calls the store
// only for a scope that has used up its quota. If the request is refused, it writes the response
// and reports false.
//
// The order is: the request itself, the scope, the rights, the quota, and last the body. The caller
// releases the slot of an accepted request when the request ends.
func (x *keyedRequest) check(m *Middleware, w http.ResponseWriter, r *http.Request, k *requestKey) (accepted bool) {
	x.middleware, x.w, x.r, x.key, x.echo[0] = m, w, r, k.key, k.echo
	x.setOwnFields(w.Header())
	if k.err != nil {
		p := m.problem(k.result)
		if k.result == ResultMissing && m.cfg.Key.Sources != nil {
			p.Detail = missingDetail(m.cfg.Key.Sources)
		}
		if syntax, ok := errors.AsType[*idemheader.SyntaxError](k.err); ok {
			p.Detail = "The key " + syntax.Reason + "."
		}
		m.refuse(w, r, p, k.err)
		return false
	}
	return x.identify() && x.authorized() && x.admit() && x.read()
}
