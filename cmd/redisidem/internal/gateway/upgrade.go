package gateway

import (
	"net/http"
	"strings"
)

// removeHTTP2Upgrade removes the wish to go on with HTTP/2 on a connection without TLS (RFC 7540,
// section 3.2). The gateway could not see the requests of such a connection. A client that speaks
// HTTP/2 without TLS begins with it.
func removeHTTP2Upgrade(h http.Header) {
	for protocol := range strings.SplitSeq(h.Get("Upgrade"), ",") {
		if strings.EqualFold(strings.TrimSpace(protocol), "h2c") {
			h.Del("Upgrade")
			h.Del("Connection")
			return
		}
	}
}
