package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// exposeField lists the response fields that pages of other origins may read.
const exposeField = "Access-Control-Expose-Headers"

// setOwnFields sets the fields of every response to a request with a key. It removes the fields
// that only the middleware may set.
func (x *keyedRequest) setOwnFields(h http.Header) {
	m := x.middleware
	m.removeMarks(h)
	if x.echo[0] != "" {
		h[m.cfg.Key.Header] = x.echo[:]
		addToList(h, exposeField, m.exposed...)
	}
	if m.cfg.PublishRetention {
		h.Set(idemheader.Retention, m.retention)
	}
}

// removeOwnFields removes the fields that setOwnFields has set, for a request that runs without
// protection after all.
func (x *keyedRequest) removeOwnFields(h http.Header) {
	h.Del(x.middleware.cfg.Key.Header)
	h.Del(idemheader.Retention)
	if h[exposeField] = x.exposed; x.exposed == nil {
		delete(h, exposeField)
	}
}
