package httpidem

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// Fingerprint configures when two requests are the same. The zero value is a digest of the method,
// the scheme, the host, the path, the raw query, the media type and the body. Path, query and body
// are compared byte for byte.
//
// The host is compared in lower case and without the default port of the scheme (RFC 9110, section
// 4.2.3). A host that is an IP address or localhost is left out, so that a retry may go to the
// address of another instance.
type Fingerprint struct {
	// Version is stored in each record beside the fingerprint, so that keys outlive a change. When
	// the way of computing it changes, set another Version or Name, and keep the old Fingerprint in
	// Config.OtherFingerprints for as long as records are kept. Default: 1.
	Version byte

	// Name is a part of the digest. With another name, a changed fingerprint needs no other
	// Version: a record that does not match Config.Fingerprint is compared with each of
	// Config.OtherFingerprints that has its version. Default: empty.
	Name string

	// AnyHost leaves scheme and host out of the digest, so that a retry may use another host name
	// of the same API. Do not set it if handlers choose a tenant or a resource by the host.
	AnyHost bool

	// Func adds the parts that make two requests the same. Method, scheme, host and path are always
	// in the digest. A program that has a digest of the request already can add only that. See
	// [JSONFields]. Default: [WholeRequest].
	Func FingerprintFunc
}

func (f Fingerprint) withDefaults() Fingerprint {
	f.Version = cmp.Or(f.Version, 1)
	if f.Func == nil {
		f.Func = WholeRequest
	}
	return f
}

// FingerprintFunc adds to the digest of a request the parts that make two requests the same. The
// body has been read: use the argument, and do not read r.Body. The function must not block, and is
// called concurrently. An error is answered with 400, and an error of the [Body] with 503.
type FingerprintFunc func(d *Digest, r *http.Request, body *Body) error

// Digest receives the parts that a [FingerprintFunc] adds. The length of each part is hashed before
// the part, so that ("a", "bc") and ("ab", "c") differ.
type Digest struct {
	hash hash.Hash // nil while all parts fit into the buffer
	used int       // bytes of the buffer that are not hashed
	buf  [512]byte
}

// Text adds a text.
func (d *Digest) Text(s string) {
	d.length(len(s))
	for s != "" {
		n := copy(d.space(), s)
		d.used += n
		s = s[n:]
	}
}

// Bytes adds bytes.
func (d *Digest) Bytes(b []byte) {
	d.length(len(b))
	if len(b) <= len(d.buf)-d.used {
		d.used += copy(d.buf[d.used:], b)
		return
	}
	d.flush()
	_, _ = d.hash.Write(b) // a hash returns no error
}

// largeBody is the size in bytes above which a body has its own digest in a fingerprint, so that it
// can be hashed while it arrives. A change of it makes other requests of live ones.
const largeBody = 64 << 10

// Body adds a whole body.
func (d *Digest) Body(b *Body) {
	if b.Len() <= largeBody {
		d.Bytes(b.bytes)
		return
	}
	d.Text("sha256")
	if b.file != nil {
		d.Bytes(b.file.sum[:])
		return
	}
	sum := sha256.Sum256(b.bytes)
	d.Bytes(sum[:])
}

// length adds the length of a part.
func (d *Digest) length(n int) {
	if len(d.buf)-d.used < 8 {
		d.flush()
	}
	binary.BigEndian.PutUint64(d.buf[d.used:], uint64(n)) //nolint:gosec // a length is not negative
	d.used += 8
}

// space returns the free part of the buffer, which is not empty.
func (d *Digest) space() []byte {
	if d.used == len(d.buf) {
		d.flush()
	}
	return d.buf[d.used:]
}

// flush hashes the buffer.
func (d *Digest) flush() {
	if d.hash == nil {
		d.hash = sha256.New()
	}
	_, _ = d.hash.Write(d.buf[:d.used])
	d.used = 0
}

// sum computes the digest of the parts.
func (d *Digest) sum(sum *[sha256.Size]byte) {
	if d.hash == nil {
		*sum = sha256.Sum256(d.buf[:d.used])
		return
	}
	d.flush()
	d.hash.Sum(sum[:0])
}

// WholeRequest is the default [FingerprintFunc]. It adds the raw query, the media type without its
// parameters, and the bytes of the body. A body with a Content-Encoding is not decoded. Other
// header fields do not count. Of a body above 64 KiB it adds the SHA-256, which is known once the
// body has arrived.
//
// A multipart body that is built again has another boundary, and is therefore another request.
// Clients must send the same bytes again, as
// [github.com/redisidem/redisidem/redisidem/idemclient.Transport] does, or the route needs another
// function.
func WholeRequest(d *Digest, r *http.Request, body *Body) error {
	d.Text(query(r))
	d.Text(mediaType(r.Header.Get("Content-Type")))
	d.Body(body)
	return nil
}

// mediaType returns a Content-Type without its parameters, in lower case. It accepts any text:
// values that are not media types are compared as they are.
func mediaType(s string) string {
	t, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// path returns the path that is hashed and stored. It is the path as the client sent it, unless the
// program has changed r.URL.Path since.
func path(r *http.Request) string {
	if p, err := url.PathUnescape(r.URL.RawPath); err == nil && r.URL.RawPath != "" && p == r.URL.Path {
		return r.URL.RawPath
	}
	if p := r.URL.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// query returns the query that is hashed, with its question mark: "/a?" and "/a" are different
// requests.
func query(r *http.Request) string {
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		return "?" + r.URL.RawQuery
	}
	return ""
}

// origin returns the scheme and the host that are hashed. The host is in lower case and without the
// default port of the scheme (RFC 9110, section 4.2.3). It is empty for an IP address and for
// localhost, which name an instance and not an API.
func origin(r *http.Request) (scheme, host string) {
	scheme, port := "http", ":80"
	if r.TLS != nil {
		scheme, port = "https", ":443"
	}
	host = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(r.Host), port), ":")
	name := host
	if strings.Contains(host, ":") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
	}
	if name == "localhost" || isAddress(strings.Trim(name, "[]")) {
		return scheme, ""
	}
	return scheme, host
}

// isAddress reports whether a host is an IP address. Most hosts are names, and parsing a name would
// allocate an error: every IPv6 address has a colon, and every IPv4 address ends with a digit.
func isAddress(host string) bool {
	if host == "" || !strings.Contains(host, ":") && (host[len(host)-1] < '0' || host[len(host)-1] > '9') {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// of adds the fingerprint of a request to an empty digest.
func (f *Fingerprint) of(d *Digest, r *http.Request, body *Body) error {
	d.Text("redisidem/httpidem/fingerprint")
	d.length(1)
	d.space()[0] = f.Version
	d.used++
	if f.Name != "" {
		d.Text(f.Name)
	}
	d.Text(strings.ToUpper(r.Method))
	if !f.AnyHost {
		scheme, host := origin(r)
		d.Text(scheme)
		d.Text(host)
	}
	d.Text(path(r))
	return f.Func(d, r, body)
}

// maxPathBytes limits the part of the path that is stored for operators. The fingerprint covers the
// whole path.
const maxPathBytes = 1024

// fingerprint sets the redisidem.Request of x, with the fingerprint that f computes. Only the
// method and the path of the request are stored. Params holds the version of the fingerprint.
func (x *keyedRequest) fingerprint(f *Fingerprint) error {
	x.digest = Digest{}
	if err := f.of(&x.digest, x.r, &x.body); err != nil {
		return err
	}
	x.digest.sum(&x.sum)
	x.version[0] = f.Version
	p := path(x.r)
	x.request = redisidem.Request{
		Method: x.r.Method, Path: p[:min(len(p), maxPathBytes)], Params: x.version[:], Fingerprint: x.sum[:],
	}
	return nil
}
