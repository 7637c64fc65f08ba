package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// newCheckRequest returns a GET request of the gateway that asks the upstream about a caller's
// request. It has the caller's header fields, without the fields about the body, conditions and
// ranges: a partial response could be taken for the whole.
func newCheckRequest(r *http.Request, target *url.URL) *http.Request {
	q := r.Clone(context.WithValue(r.Context(), checkRequest{}, true))
	q.Method, q.URL, q.Body, q.ContentLength, q.TransferEncoding, q.Trailer = http.MethodGet, target, http.NoBody, 0, nil, nil
	for name := range q.Header {
		if strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "If-") {
			q.Header.Del(name)
		}
	}
	// A proxy removes the fields that Connection names. A client must not be able to remove its
	// credentials, or fields of the gateway, from the check request.
	for _, name := range []string{"Range", "Expect", "Connection", idemheader.Key} {
		q.Header.Del(name)
	}
	return q
}

// checkRequest is the key of a check request's mark in its context.
type checkRequest struct{}

// isCheckRequest reports whether a request is a check request, which is harmless to repeat. Its
// context also has the stage of the caller's request.
func isCheckRequest(r *http.Request) bool { return r.Context().Value(checkRequest{}) != nil }

// checkURL returns the URL of a check request at the upstream. The reference is a path, with or
// without a query. {key} is replaced by the key. Errors do not contain the key.
func checkURL(reference, key string) (*url.URL, error) {
	path, query, asks := strings.Cut(reference, "?")
	text := strings.ReplaceAll(path, "{key}", url.PathEscape(key))
	if asks {
		text += "?" + strings.ReplaceAll(query, "{key}", url.QueryEscape(key))
	}
	u, err := url.Parse(text)
	switch {
	case !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//"):
		return nil, errors.New("must be a path at the upstream, with or without a query")
	case strings.Contains(text, " "):
		return nil, errors.New("must not have a space; write %20")
	case strings.Contains(text, "#"):
		return nil, errors.New("must not have a fragment")
	case err != nil:
		return nil, errors.Unwrap(err) // without the text, which may contain a key
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if slices.Contains([]string{".", ".."}, segment) { // most servers resolve it to another path, even if it is escaped
			return nil, errors.New("must not have a . or .. segment")
		}
	}
	return u, nil
}
