package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// question makes a request of the gateway's own, which asks the upstream about a caller's request: a GET with the fields that tell
// who the caller is. What these say about the caller's body and answer is left out, or half of an answer could be taken for all of
// it.
func question(r *http.Request, target *url.URL) *http.Request {
	q := r.Clone(r.Context())
	q.Method, q.URL, q.Body, q.ContentLength, q.TransferEncoding, q.Trailer = http.MethodGet, target, http.NoBody, 0, nil, nil
	for name := range q.Header {
		if strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "If-") {
			q.Header.Del(name)
		}
	}
	// A proxy removes what Connection names. Nobody may take their credentials, or what the gateway adds, out of its question.
	for _, name := range []string{"Range", "Expect", "Connection", httpidem.DefaultHeader} {
		q.Header.Del(name)
	}
	return q
}
