package gateway

import (
	"errors"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// What asking the upstream can come to besides an answer.
var (
	errNotDone      = errors.New("the upstream has not done it")
	errStillUnknown = errors.New("the upstream does not tell")
)

// writeProblem writes an answer of the gateway's own, as RFC 9457 describes it.
func writeProblem(w http.ResponseWriter, status int, title, detail string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(httpidem.ProblemHeader, "upstream")
	httpidem.WriteProblem(w, nil, &httpidem.Problem{Type: "about:blank", Title: title, Status: status, Detail: detail})
}
