package gateway

import (
	"net/url"
	"slices"
	"strings"
)

// pathReading is a way in which a server reads a path. Servers differ, and a service does not have
// to read a path as the gateway does.
type pathReading struct {
	slashes    slashes
	parameters parameters
	dots       dots
}

// slashes is what separates segments besides a slash.
type slashes int

const (
	onlySlashes     slashes = iota // RFC 3986: an escaped slash is a part of a segment
	escapedSlashes                 // the path is unescaped before it is split
	backwardSlashes                // and a backslash is a slash, escaped or not
)

// parameters is whether a semicolon ends a segment, so that parameters follow.
type parameters int

const (
	noParameters        parameters = iota
	parametersBefore               // they are removed before the path is unescaped
	parametersAfterward            // they are removed afterwards, also behind an escaped semicolon
)

// dots is how empty segments and those of dots are read.
type dots int

const (
	resolved        dots = iota // the path is cleaned, and ends with a slash only if it was sent with one
	resolvedToSlash             // RFC 3986: it also ends with one if its last segment was one of dots
	kept                        // they are segments as any others
)

// pathReadings returns what servers may read a path as, in the form of [pathOf]. The first is the
// path as RFC 3986 has it, cleaned as Go does.
func pathReadings(u *url.URL) (all []*url.URL) {
	raw := strings.TrimPrefix(rawPath(u), slash)
	for separator := onlySlashes; separator <= backwardSlashes; separator++ {
		for parameters := noParameters; parameters <= parametersAfterward; parameters++ {
			for dots := resolved; dots <= kept; dots++ {
				path := pathOf(pathReading{separator, parameters, dots}.segments(raw))
				if !slices.ContainsFunc(all, func(other *url.URL) bool { return other.RawPath == path.RawPath }) {
					all = append(all, path)
				}
			}
		}
	}
	return all
}

// isPlainPath reports whether all servers read a path in the same way, so that it is its own and
// only reading.
func isPlainPath(u *url.URL) bool {
	raw, unescaped := u.RawPath, u.Path
	if raw == "" {
		raw = unescaped // without escapes, except for those that an URL needs
	}
	return strings.HasPrefix(unescaped, slash) && !strings.ContainsAny(unescaped, `;\`) && !strings.Contains(unescaped, "//") && !strings.Contains(unescaped, "/.") &&
		strings.Count(raw, slash) == strings.Count(unescaped, slash)
}

// segments returns the segments of a path, unescaped. raw lacks its first slash. The last segment
// of a path that ends with a slash is empty.
func (p pathReading) segments(raw string) (segments []string) {
	if p.slashes == backwardSlashes {
		raw = strings.ReplaceAll(raw, `\`, slash)
	}
	for part := range strings.SplitSeq(raw, slash) {
		text := part
		if p.parameters == parametersBefore {
			text, _, _ = strings.Cut(text, ";")
		}
		if unescaped, err := url.PathUnescape(text); err == nil {
			text = unescaped
		}
		if p.slashes == backwardSlashes {
			text = strings.ReplaceAll(text, `\`, slash)
		}
		texts := []string{text}
		if p.slashes != onlySlashes {
			texts = strings.Split(text, slash)
		}
		for _, text := range texts {
			if p.parameters == parametersAfterward {
				text, _, _ = strings.Cut(text, ";")
			}
			segments = append(segments, text)
		}
	}
	if p.dots == kept {
		return segments
	}
	return resolve(segments, p.dots == resolvedToSlash)
}

// resolve returns the segments of a path without empty segments and those of dots. The path ends
// with a slash if it did so before, or with toSlash if its last segment was one of dots.
func resolve(segments []string, toSlash bool) []string {
	var out []string
	for _, segment := range segments {
		switch segment {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, segment)
		}
	}
	last := segments[len(segments)-1]
	if len(out) == 0 || last == "" || toSlash && isDots(last) {
		out = append(out, "")
	}
	return out
}

func isDots(segment string) bool { return segment == "." || segment == ".." }

// pathOf returns the URL of a path with these segments, in a form that a mux neither cleans nor
// splits in another way. Segments that are not possible in a clean path match only wildcards.
func pathOf(segments []string) *url.URL {
	u := &url.URL{}
	for i, segment := range segments {
		if segment == "" && i < len(segments)-1 || isDots(segment) || segment == slash {
			segment = other + segment
		}
		u.Path += slash + segment
		u.RawPath += slash + url.PathEscape(segment)
	}
	return u
}
