package httpidem

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"mime"
	"net/http"
	"strings"
)

// Fingerprint tells whether two requests are the same. The zero value is a digest over the method, the path, the raw query, the
// media type and the body, as they came.
type Fingerprint struct {
	// Version stands in each record beside the fingerprint, so that keys outlive a change: give another number to another way of
	// computing it, and put the old one into Config.OtherFingerprints for as long as records are kept. Default: 1.
	Version byte

	// Secret makes the digest a keyed one (HMAC-SHA-256), so that whoever can read the store cannot guess the contents of small
	// requests. A new secret needs a new Version. Nil: a plain SHA-256.
	Secret []byte

	// Func adds to the digest what makes requests the same besides the method and the path, which it always has. See [WholeRequest],
	// the default, and [JSONFields]; for a digest that the caller knows already, a function adds it and nothing else.
	Func FingerprintFunc
}

// FingerprintFunc adds to the digest of a request what makes two requests the same. The body has been read and must not be
// changed; what is left of r.Body is not to be used. It must not block, and is called concurrently. Its error is answered with
// 400.
type FingerprintFunc func(d *Digest, r *http.Request, body []byte) error

// Digest is what a [FingerprintFunc] adds to. Each part is hashed behind its length, so that neighbours cannot run together.
type Digest struct {
	hash hash.Hash
	head [8]byte
}

// Text adds a text.
func (d *Digest) Text(s string) { d.Bytes([]byte(s)) }

// Bytes adds bytes.
func (d *Digest) Bytes(b []byte) {
	binary.BigEndian.PutUint64(d.head[:], uint64(len(b)))
	_, _ = d.hash.Write(d.head[:]) // a hash returns no error
	_, _ = d.hash.Write(b)
}

// WholeRequest is the default [FingerprintFunc]: the raw query, the media type without its parameters, and the body's bytes as
// they came, still encoded if there is a Content-Encoding. The host and all other header fields do not count.
//
// A multipart body made anew has another boundary, and so is another request: clients must send the same bytes again, as
// [Transport] does, or the route needs another function.
func WholeRequest(d *Digest, r *http.Request, body []byte) error {
	d.Text(r.URL.RawQuery)
	d.Text(mediaType(r.Header.Get("Content-Type")))
	d.Bytes(body)
	return nil
}

// mediaType returns a Content-Type without its parameters, in lower case. Nothing is refused: what is no media type is another
// one than each other text.
func mediaType(s string) string {
	if t, _, err := mime.ParseMediaType(s); err == nil {
		return t
	}
	t, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// path returns the path that counts and that is stored: as it came, with its escapes, and not cleaned.
func path(r *http.Request) string {
	if p := r.URL.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// of computes the fingerprint of a request.
func (f *Fingerprint) of(r *http.Request, body []byte) ([]byte, error) {
	d := &Digest{}
	if f.Secret != nil {
		d.hash = hmac.New(sha256.New, f.Secret)
	} else {
		d.hash = sha256.New()
	}
	d.Text("redisidem/httpidem/fingerprint")
	d.Bytes([]byte{f.Version})
	d.Text(strings.ToUpper(r.Method))
	d.Text(path(r))
	if err := f.Func(d, r, body); err != nil {
		return nil, err
	}
	return d.hash.Sum(nil), nil
}
