package gateway

import (
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// ownAnswer is added to the status of an answer of the gateway's own that does not tell what the upstream did, on its way through
// the middleware: all that its policy looks at is the status, and an upstream's 502, which keep: all keeps, is another matter. The
// sum is no status, so no upstream has it.
const ownAnswer = 400

// lastStatus is the highest status there is (RFC 9110, section 15).
const lastStatus = 599

var errNoStatus = errors.New("the upstream's status is none")

// status tells the middleware what happens to an answer.
func (p *Policy) status(status int) httpidem.Disposition {
	switch {
	case status > lastStatus:
		return httpidem.Unclear
	case p.Keep == "all":
		return httpidem.KeepAll(status)
	}
	return httpidem.KeepFinal(status)
}

// ownStatus shifts the statuses that are written. Inside of the middleware it marks an answer of the gateway's own, and outside of it
// takes the mark off.
type ownStatus struct {
	http.ResponseWriter
	shift int
}

func (w *ownStatus) WriteHeader(status int) {
	if w.shift > 0 || status > lastStatus {
		status += w.shift
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *ownStatus) Unwrap() http.ResponseWriter { return w.ResponseWriter }
