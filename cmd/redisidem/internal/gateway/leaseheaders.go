package gateway

import (
	"net/http/httputil"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// setLeaseHeaders sets the fields that describe the lease of a request to the upstream, and removes
// those of the client.
func setLeaseHeaders(r *httputil.ProxyRequest) {
	httpidem.RemoveLeaseHeaders(r.Out)
	if st := httpidem.Stage(r.In.Context()); st != nil {
		r.Out.Header.Set(idemheader.Attempt, strconv.Itoa(st.Attempt()))
		r.Out.Header.Set(idemheader.Fence, strconv.FormatInt(st.Fence(), 10))
	}
}
