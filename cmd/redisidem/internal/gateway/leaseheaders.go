package gateway

import (
	"net/http/httputil"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// The fields that describe the lease of a request to the upstream: the number of the attempt, and
// the fence. The fence grows with each lease of a key, so that the upstream can refuse older ones.
const (
	AttemptHeader = "Idempotency-Attempt"
	FenceHeader   = "Idempotency-Fence"
)

// setLeaseHeaders sets the fields of the lease. Values from the client are removed.
func setLeaseHeaders(r *httputil.ProxyRequest) {
	r.Out.Header.Del(AttemptHeader)
	r.Out.Header.Del(FenceHeader)
	if st := httpidem.Stage(r.In.Context()); st != nil {
		r.Out.Header.Set(AttemptHeader, strconv.Itoa(st.Attempt()))
		r.Out.Header.Set(FenceHeader, strconv.FormatInt(st.Fence(), 10))
	}
}
