package httpidem

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Fingerprint configures when two requests are the same. The zero value is a digest over the
// method, the scheme, the host, the path, the raw query, the media type and the body. Path, query
// and body count byte for byte, as they came. The host counts in lower case and without the
// scheme's default port, as RFC 9110 compares it. A host that is an IP address or localhost does
// not count: a retry may go to another instance by its address.
type Fingerprint struct {
	// Version stands in each record beside the fingerprint, so that keys outlive a change: give
	// another number to another way of computing it, and put the old one into
	// Config.OtherFingerprints for as long as records are kept. Default: 1.
	Version byte

	// AnyHost leaves scheme and host out of the digest, so that a retry may go to another name of
	// the same API. It is not for handlers that choose a tenant or a resource by the host.
	AnyHost bool

	// Func adds to the digest what makes requests the same besides method, scheme, host and path,
	// which it always has. See [WholeRequest], the default, and [JSONFields]; for a digest that the
	// caller knows already, a function adds it and nothing else.
	Func FingerprintFunc
}

func (f Fingerprint) withDefaults() Fingerprint {
	f.Version = cmp.Or(f.Version, 1)
	if f.Func == nil {
		f.Func = WholeRequest
	}
	return f
}

// FingerprintFunc adds to the digest of a request what makes two requests the same. The body has
// been read and must not be changed; what is left of r.Body is not to be used. It must not block,
// and is called concurrently. Its error is answered with 400.
type FingerprintFunc func(d *Digest, r *http.Request, body []byte) error

// Digest is what a [FingerprintFunc] adds to. Each part is hashed behind its length, so that
// neighbours cannot run together.
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

// WholeRequest is the default [FingerprintFunc]: the raw query, the media type without its
// parameters, and the body's bytes as they came, still encoded if there is a Content-Encoding.
// Other header fields do not count.
//
// A multipart body made anew has another boundary, and so is another request: clients must send the
// same bytes again, as [github.com/redisidem/redisidem/redisidem/idemclient.Transport] does, or the
// route needs another function.
func WholeRequest(d *Digest, r *http.Request, body []byte) error {
	d.Text(query(r))
	d.Text(mediaType(r.Header.Get("Content-Type")))
	d.Bytes(body)
	return nil
}

// mediaType returns a Content-Type without its parameters, in lower case. Nothing is refused: what
// is no media type is another one than each other text.
func mediaType(s string) string {
	if t, _, err := mime.ParseMediaType(s); err == nil {
		return t
	}
	t, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// path returns the path that counts and that is stored: byte for byte as it came, unless the
// program has changed it since.
func path(r *http.Request) string {
	if p, err := url.PathUnescape(r.URL.RawPath); err == nil && r.URL.RawPath != "" && p == r.URL.Path {
		return r.URL.RawPath
	}
	if p := r.URL.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// query returns the query that counts, with its question mark: an empty query is another one than
// none.
func query(r *http.Request) string {
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		return "?" + r.URL.RawQuery
	}
	return ""
}

// origin returns the scheme and the host that count: the host in lower case and without the
// scheme's default port (RFC 9110, section 4.2.3). An address names an instance and no resource,
// and so does localhost: they count as no host.
func origin(r *http.Request) (scheme, host string) {
	scheme, port := "http", ":80"
	if r.TLS != nil {
		scheme, port = "https", ":443"
	}
	host = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(r.Host), port), ":")
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || name == "localhost" {
		return scheme, ""
	}
	return scheme, host
}

// of computes the fingerprint of a request.
func (f *Fingerprint) of(r *http.Request, body []byte) ([]byte, error) {
	d := &Digest{hash: sha256.New()}
	d.Text("redisidem/httpidem/fingerprint")
	d.Bytes([]byte{f.Version})
	d.Text(strings.ToUpper(r.Method))
	if !f.AnyHost {
		scheme, host := origin(r)
		d.Text(scheme)
		d.Text(host)
	}
	d.Text(path(r))
	if err := f.Func(d, r, body); err != nil {
		return nil, err
	}
	return d.hash.Sum(nil), nil
}
