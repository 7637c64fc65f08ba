// Package httptoken compares the tokens of HTTP: names of header fields, and request methods.
package httptoken

import (
	"net/http"
	"slices"
	"strings"
)

// Valid reports whether s is a token, as the name of a header field and a method must be (RFC 9110,
// section 5.6.2).
func Valid(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// Upper returns a copy of methods in upper case.
func Upper(methods []string) []string {
	out := slices.Clone(methods)
	for i, method := range out {
		out[i] = strings.ToUpper(method)
	}
	return out
}

// Covers reports whether method is among methods. Case does not matter, since servers behind may
// ignore it, and an empty method is GET, as it is for clients.
func Covers(methods []string, method string) bool {
	if method == "" {
		method = http.MethodGet
	}
	return slices.ContainsFunc(methods, func(covered string) bool { return strings.EqualFold(covered, method) })
}
