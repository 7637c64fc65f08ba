package httpidem

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"time"
)

// FingerprintOf returns a request's fingerprint as text.
func FingerprintOf(f Fingerprint, r *http.Request, body []byte) (string, error) {
	f = f.withDefaults()
	sum, err := f.of(r, body)
	return hex.EncodeToString(sum), err
}

// PathOf returns the path that counts of a URL's.
func PathOf(p string) string { return path(&http.Request{URL: &url.URL{Path: p}}) }

// HostOf returns the host that counts of a Host field's, without TLS.
func HostOf(host string) string {
	_, host = origin(&http.Request{Host: host})
	return host
}

// MediaType returns the part of a Content-Type that counts.
var MediaType = mediaType

// ProblemName returns the name of a result in problems.
func ProblemName(r Result) string { return r.problemName() }

// TimeOf returns the time that is in a key.
var TimeOf = timeOf

// What deals with headers that are lists.
var (
	AddToList = addToList
	InList    = inList
)

// RetryAfter returns the pause that a problem of a middleware asks for.
func RetryAfter(m *Middleware, r Result, err error) time.Duration { return m.retryAfter(r, err) }
