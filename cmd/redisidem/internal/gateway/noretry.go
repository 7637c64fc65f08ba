package gateway

import (
	"net/http"
	"strings"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// stopTransportRetries stops Go's transport from repeating a request by itself after an idle
// connection broke. Whether to repeat it is the gateway's decision. The transport repeats requests
// with a GetBody, and requests with one of these fields. It looks for their canonical names. On the
// wire the case of a name does not matter.
func stopTransportRetries(r *http.Request) {
	r.GetBody = nil
	for i, name := range repeatingFields {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[lowerRepeatingFields[i]] = values
		}
	}
}

var (
	repeatingFields      = [...]string{idemheader.Key, "X-Idempotency-Key"}
	lowerRepeatingFields = [...]string{strings.ToLower(idemheader.Key), "x-idempotency-key"}
)
