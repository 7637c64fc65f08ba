package httpidem

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"
)

// FingerprintOf returns a request's fingerprint as text.
func FingerprintOf(f Fingerprint, r *http.Request, body []byte) (string, error) {
	f = f.withDefaults()
	var d Digest
	err := f.of(&d, r, &Body{bytes: body})
	var sum [sha256.Size]byte
	d.sum(&sum)
	return hex.EncodeToString(sum[:]), err
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

// Snapshot is a copy of a header.
type Snapshot struct{ s *headerSnapshot }

// SnapshotOf copies a header.
func SnapshotOf(h http.Header) Snapshot {
	s := &headerSnapshot{}
	s.take(h)
	return Snapshot{s}
}

// Get returns the values of a field.
func (s Snapshot) Get(name string) []string { return s.s.get(name) }

// Equal reports whether h has the fields of the snapshot.
func (s Snapshot) Equal(h http.Header) bool { return s.s.equal(h) }

// Header returns the fields of the snapshot.
func (s Snapshot) Header() http.Header { return s.s.header() }

// Pointed returns the value at a JSON pointer in a valid document.
var Pointed = pointed

// TimeOf returns the time that is in a key.
var TimeOf = timeOf

// What deals with headers that are lists.
var (
	AddToList = addToList
	InList    = inList
)

// RetryAfter returns the pause that a problem of a middleware asks for.
func RetryAfter(m *Middleware, r Result, err error) time.Duration { return m.retryAfter(r, err) }

// BreakFile makes the file of a body unreadable.
func BreakFile(b *Body) {
	_ = b.file.file.Close()
	b.file.file, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
}

// CutFile removes the end of the file of a body.
func CutFile(b *Body) error { return b.file.file.Truncate(b.file.size / 2) }

// RemoveNamed makes a file with that name, and removes it as that of a body.
func RemoveNamed(t *testing.T, s *Spool, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	(&spooledBody{spool: s, file: file, name: name}).remove()
}
