package gateway

import (
	"io"
	"net/http"
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

// setLeaseHeaders sets the fields of the lease. Values from the client are removed, also from its
// trailers: some servers add these to the header.
func setLeaseHeaders(r *httputil.ProxyRequest) {
	deleteLease(r.Out.Header)
	deleteLease(r.Out.Trailer) // from those that were announced
	if r.Out.Trailer != nil && r.Out.Body != nil {
		r.Out.Body = &trailerFilter{r.Out.Body, r.Out.Trailer}
	}
	if st := httpidem.Stage(r.In.Context()); st != nil {
		r.Out.Header.Set(AttemptHeader, strconv.Itoa(st.Attempt()))
		r.Out.Header.Set(FenceHeader, strconv.FormatInt(st.Fence(), 10))
	}
}

func deleteLease(h http.Header) {
	h.Del(AttemptHeader)
	h.Del(FenceHeader)
}

// trailerFilter is the body of a request whose trailers come with its end.
type trailerFilter struct {
	io.ReadCloser
	trailer http.Header
}

// Read implements [io.Reader].
func (f *trailerFilter) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil {
		deleteLease(f.trailer)
	}
	return n, err
}
