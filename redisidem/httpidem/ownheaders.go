package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// setOwnFields sets the fields of every response to a request with a key. It removes the fields
// that only the middleware may set.
func (x *keyedRequest) setOwnFields(h http.Header) {
	m := x.middleware
	for _, name := range m.cfg.Profile.marks() {
		h.Del(name)
	}
	if x.echo[0] != "" {
		h[m.cfg.Key.Header] = x.echo[:]
		addToList(h, "Access-Control-Expose-Headers", m.exposed...)
	}
	if m.cfg.PublishRetention {
		h.Set(idemheader.Retention, m.retention)
	}
}
