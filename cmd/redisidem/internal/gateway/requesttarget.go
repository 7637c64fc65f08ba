package gateway

import (
	"net/http/httputil"
	"net/url"
	"strings"
)

// route sets the URL of a request to the upstream. Path and query are appended to the upstream's
// URL byte for byte. ReverseProxy would drop parameters that Go cannot parse, and net/url would
// escape some characters.
func (u *Upstream) route(r *httputil.ProxyRequest) {
	r.SetURL(u.URL)
	out := r.Out.URL
	if out.Scheme == schemeH2C {
		out.Scheme = "http"
	}
	out.RawQuery = r.In.URL.RawQuery
	switch base := u.URL.RawQuery; {
	case base != "" && out.RawQuery != "":
		out.RawQuery = base + "&" + out.RawQuery
	case base != "":
		out.RawQuery = base
	}
	path := strings.TrimSuffix(u.URL.EscapedPath(), "/") + rawPath(r.In.URL)
	// Opaque cannot begin with two slashes. Such a path is left to net/url, which escapes only
	// characters that are invalid in a URL.
	if path != out.EscapedPath() && !strings.HasPrefix(path, "//") {
		out.Opaque = path
	}
}

// rawPath returns the path of a URL as the client sent it.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// rawTarget returns the path and the query of a URL as the client sent them.
func rawTarget(u *url.URL) string {
	if u.ForceQuery || u.RawQuery != "" {
		return rawPath(u) + "?" + u.RawQuery
	}
	return rawPath(u)
}

// hasSpace reports whether a client sent a space in its path or query, as HTTP/2 lets it. In a
// request line of HTTP/1.1 the space would end the target, and the rest would be read as another
// part of the line. Go's server refuses the controls.
func hasSpace(u *url.URL) bool {
	return strings.Contains(u.RawPath, " ") || strings.Contains(u.RawQuery, " ")
}
