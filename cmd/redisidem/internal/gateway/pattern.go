package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// pattern is a pattern of [http.ServeMux] in its parts.
type pattern struct {
	method, host string // empty for any
	segments     []segment
	subtree      bool // one or more segments follow
}

// segment is a segment of the path of a pattern.
type segment struct {
	text string // empty for a wildcard; slash for the end of a path that ends with a slash
	rest bool   // it is one of the rest of a subtree, which may be slash
}

const (
	slash = "/"
	// other is a host and a segment that no pattern has.
	other = "\x00other"
)

// parsePattern returns the parts of a pattern that a mux accepts.
func parsePattern(match string) (p pattern) {
	if end := strings.IndexAny(match, " \t"); end >= 0 {
		p.method, match = match[:end], strings.TrimLeft(match[end:], " \t")
	}
	p.host, match, _ = strings.Cut(match, "/")
	for text := range strings.SplitSeq(match, "/") {
		switch {
		case text == "", strings.HasSuffix(text, "...}"): // both only at the end of a clean pattern
			p.subtree = true
		case text == "{$}":
			p.segments = append(p.segments, segment{text: slash})
		case text[0] == '{':
			p.segments = append(p.segments, segment{})
		default:
			if unescaped, err := url.PathUnescape(text); err == nil {
				text = unescaped
			}
			p.segments = append(p.segments, segment{text: text})
		}
	}
	return p
}

// accepts reports whether requests with a method can match.
func (p *pattern) accepts(method string) bool {
	return p.method == "" || p.method == method || p.method == http.MethodGet && method == http.MethodHead
}

// segment returns segment i of the paths with n segments that match. ok is false if no such path
// matches. A path that lacks only its last slash matches too, if no other pattern matches it
// better.
func (p *pattern) segment(i, n int) (s segment, ok bool) {
	own := len(p.segments)
	lacksSlash := n == own-1 && p.segments[n].text == slash
	switch {
	case n < own && !lacksSlash, n > own && !p.subtree:
		return segment{}, false
	case i < own:
		return p.segments[i], true
	}
	return segment{rest: true}, true
}

// eachSample calls a function with requests that represent all others: what the routes of two
// configurations do with a request, they do with one of them. They are what a pattern of the first
// and a pattern of the second have in common, for each method and each number of segments. Where
// both have wildcards, a sample has a text that no pattern has. Each pattern that matches the
// sample therefore matches all that the two have in common, so that the same patterns win.
func eachSample(first, second []pattern, methods []string, call func(*http.Request)) {
	longest := 0
	for _, p := range slices.Concat(first, second) {
		longest = max(longest, len(p.segments))
	}
	for i := range first {
		for j := range second {
			// Longer paths match as those with longest+2 segments.
			for n := 1; n <= longest+2; n++ {
				sampleOf(&first[i], &second[j], n, other, methods, call)
				sampleOf(&first[i], &second[j], n, slash, methods, call)
			}
		}
	}
}

// sampleOf calls a function with the requests that two patterns have in common. Their paths have n
// segments, of which the last is free where both patterns let it.
func sampleOf(a, b *pattern, n int, free string, methods []string, call func(*http.Request)) {
	host, ok := common(a.host, b.host, other)
	if !ok {
		return
	}
	u, ok := samplePath(a, b, n, free)
	if !ok {
		return
	}
	for _, method := range methods {
		if a.accepts(method) && b.accepts(method) {
			call(&http.Request{Method: method, Host: host, URL: u})
		}
	}
}

// common returns the text that two patterns accept, of which an empty one accepts any. It is free
// if both accept any, and ok is false if there is no such text.
func common(a, b, free string) (text string, ok bool) {
	switch {
	case a == "" && b == "":
		return free, true
	case a == "" || a == b:
		return b, true
	}
	return a, b == ""
}

// samplePath returns a path of n segments that two patterns have in common. Its last segment is
// last where they let it. ok is false if they have no such path.
func samplePath(a, b *pattern, n int, last string) (u *url.URL, ok bool) {
	segments := make([]string, n)
	for i := range n {
		free := other
		if i == n-1 {
			free = last
		}
		s, inA := a.segment(i, n)
		t, inB := b.segment(i, n)
		text, ok := common(s.text, t.text, free)
		ends := free == slash
		switch {
		case !inA, !inB, !ok, (text == slash) != ends:
			return nil, false
		case ends && (s == segment{} || t == segment{}): // a wildcard does not stand for it
			return nil, false
		}
		if !ends {
			segments[i] = text
		}
	}
	return pathOf(segments), true
}
