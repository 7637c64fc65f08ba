package httpidem

import (
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
	echo       string // the key in the form that the client used, or empty if it cannot be read
	key        string
	scope      *redisidem.Scope
	request    redisidem.Request
	version    byte // of the fingerprint in request
	body       []byte
	slot       quotaSlot // in the quota of its scope
}

// check checks a request and returns the values to run it with. It calls the store only for a
// scope that has used up its quota. If the request is refused, it writes the response and returns
// nil. If the request has no key and needs none, it returns nil and bypass.
//
// The order is: the request itself, the scope, the rights, the quota, and last the body. The caller
// releases the slot of the keyedRequest when the request ends.
func (m *Middleware) check(w http.ResponseWriter, r *http.Request) (x *keyedRequest, bypass bool) {
	key, echo, result, err := m.keyOf(r)
	if result == ResultBypassed {
		return nil, true
	}
	x = &keyedRequest{middleware: m, w: w, r: r, key: key, echo: echo}
	x.setOwnFields(w.Header())
	if err != nil {
		p := m.problem(result)
		if syntax, ok := errors.AsType[*idemheader.SyntaxError](err); ok {
			p.Detail = "The key " + syntax.Reason + "."
		}
		m.refuse(w, r, p, err)
		return nil, false
	}
	if !x.identify() || !x.authorized() || !x.admit() || !x.read() {
		return nil, false
	}
	return x, false
}
