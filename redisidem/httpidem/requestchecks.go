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
	body       Body
	hasBody    bool      // the body was read
	flow       bool      // a flow runs it, and not a handler
	exposed    []string  // the Access-Control-Expose-Headers from before setOwnFields
	opened     error     // that of the store, if an oversize request runs because of Config.FailOpen
	slot       quotaSlot // in the quota of its scope
}

// verdict is what became of a request in its checks.
type verdict int

const (
	refused  verdict = iota // it was answered
	accepted                // it may run
	oversize                // its body is too large, and it may run without protection
	unkeyed                 // it has no key and needs none; nothing was written
)

// check checks a request, and fills in the values to run it with. It calls the store only for a
// scope that has used up its quota.
//
// The order is: the key, the scope, the rights, the quota, and last the body. A key in the body
// comes last too, since only a caller that passes the other checks may make the process keep a
// body. The signature of a webhook comes before all of them, and with it the body. The caller
// releases an accepted or oversize request when the request ends.
func (x *keyedRequest) check(m *Middleware, w http.ResponseWriter, r *http.Request) (result verdict) {
	x.middleware, x.w, x.r = m, w, r
	defer func() {
		if result != accepted && result != oversize { // also after a panic in a function of the program
			x.release()
		}
	}()
	if m.verify != nil && (x.readBody(nil) != accepted || !x.verified()) {
		return refused
	}
	sent, err := m.cfg.Key.sent(r)
	early := !sent.found && err == nil && m.cfg.Key.inBody()
	if early {
		if !x.admitted() {
			return refused
		}
		if result := x.readBody(nil); result != accepted {
			return result
		}
		sent, err = m.cfg.Key.sentInBody(r, x.body.bytes)
	}
	key := m.keyOf(sent, err)
	if key.result == ResultBypassed {
		if early {
			(&replayedBody{}).restore(r, x.body)
		}
		return unkeyed
	}
	x.echo[0] = key.echo
	x.exposed = w.Header()[exposeField]
	x.setOwnFields(w.Header())
	if key.err != nil {
		x.refuseKey(&key)
		return refused
	}
	x.key = m.cfg.Key.Prefix + key.key
	if !early && !x.admitted() {
		return refused
	}
	spool := m.cfg.Spool
	if x.flow {
		spool = nil // its params need the bytes
	}
	if result := x.readBody(spool); result != accepted {
		return result
	}
	if err := x.fingerprint(&m.cfg.Fingerprint); err != nil {
		x.refuseBody(err)
		return refused
	}
	return accepted
}

// release gives back what the request has taken: its place in the quota, and the file of its body.
func (x *keyedRequest) release() {
	x.slot.release()
	x.body.file.remove()
}

// admitted reports whether the caller may use a key now. If not, it refuses the request.
func (x *keyedRequest) admitted() bool { return x.identify() && x.authorized() && x.admit() }

// refuseKey answers a request whose key is missing or not accepted.
func (x *keyedRequest) refuseKey(k *requestKey) {
	m := x.middleware
	p := m.problem(k.result)
	if k.result == ResultMissing && m.cfg.Key.Sources != nil {
		p.Detail = missingDetail(m.cfg.Key.Sources)
	}
	if syntax, ok := errors.AsType[*idemheader.SyntaxError](k.err); ok {
		p.Detail = "The key " + syntax.Reason + "."
	}
	x.refuse(p, k.err)
}
