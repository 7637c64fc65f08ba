package httpidem

import (
	"io"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// RemoveLeaseHeaders removes [idemheader.Attempt] and [idemheader.Fence] from a request. It is for
// proxies: services trust these fields, so those that a client has forged must not reach them. It
// also removes them from the trailers, which some servers add to the header. These come with the
// end of the body, so the body of a request with trailers is replaced by one that removes them
// there.
func RemoveLeaseHeaders(r *http.Request) {
	removeLease(r.Header)
	removeLease(r.Trailer) // from those that were announced
	if r.Trailer != nil && r.Body != nil {
		r.Body = &trailerFilter{r.Body, r.Trailer}
	}
}

func removeLease(h http.Header) {
	h.Del(idemheader.Attempt)
	h.Del(idemheader.Fence)
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
		removeLease(f.trailer)
	}
	return n, err
}
