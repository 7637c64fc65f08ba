package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// newCheckRequest makes a request of the gateway's own, which asks the upstream about a caller's
// request: a GET with the fields that tell who the caller is. What these say about the caller's
// body and answer is left out, or half of an answer could be taken for all of it.
func newCheckRequest(r *http.Request, target *url.URL) *http.Request {
	q := r.Clone(r.Context())
	q.Method, q.URL, q.Body, q.ContentLength, q.TransferEncoding, q.Trailer = http.MethodGet, target, http.NoBody, 0, nil, nil
	for name := range q.Header {
		if strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "If-") {
			q.Header.Del(name)
		}
	}
	// A proxy removes what Connection names. A client must not be able to remove its credentials,
	// or fields of the gateway, from the check request.
	for _, name := range []string{"Range", "Expect", "Connection", idemheader.Key} {
		q.Header.Del(name)
	}
	return q
}

// target returns where at the upstream a question goes: a path, maybe with a query, in which {key}
// stands for a key.
func target(reference, key string) (*url.URL, error) {
	path, query, asks := strings.Cut(reference, "?")
	text := strings.ReplaceAll(path, "{key}", url.PathEscape(key))
	if asks {
		text += "?" + strings.ReplaceAll(query, "{key}", url.QueryEscape(key))
	}
	u, err := url.Parse(text)
	switch {
	case !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//"):
		return nil, errors.New("must be a path at the upstream, with or without a query")
	case strings.Contains(text, "#"):
		return nil, errors.New("must not have a fragment")
	case err != nil:
		return nil, errors.Unwrap(err) // without the text, which may have a key
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if slices.Contains([]string{".", ".."}, segment) { // which is another path to most servers, however it is escaped
			return nil, errors.New("must not have dots for a segment")
		}
	}
	return u, nil
}
