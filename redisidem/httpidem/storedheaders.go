package httpidem

import (
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// DefaultKeepHeaders returns the names of the response fields that are always stored.
func DefaultKeepHeaders() []string {
	return []string{
		// The representation.
		"Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location", "Content-Range",
		"Content-Type", "Etag", "Last-Modified", "Repr-Digest", "Vary",
		// The outcome.
		"Allow", "Link", "Location", "Preference-Applied", "Retry-After",
		// gRPC: how messages are encoded, and the outcome of a call without messages.
		"Grpc-Encoding", "Grpc-Message", "Grpc-Status", "Grpc-Status-Details-Bin",
		// The protection in browsers, which a replay needs as much as the first response.
		"Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options",
	}
}

// isNeverStored reports whether a response field, in canonical form, must not be stored: it belongs
// to one connection, one moment or one caller.
func isNeverStored(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Set-Cookie", "Set-Cookie2", "Date", "Age",
		"Content-Length", "Cache-Control", "Expires", "Authorization", "Authentication-Info", "Www-Authenticate",
		"Cookie", "Alt-Svc", "Server", "Clear-Site-Data", "Strict-Transport-Security", IdempotentReplayedHeader, ShouldRetryHeader,
		notKeptHeader:
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Idempotency-")
}

// mayBeStored reports whether Config.Response.KeepHeaders may name a response field.
func mayBeStored(name, keyHeader string) bool {
	canonical := http.CanonicalHeaderKey(name)
	return httptoken.Valid(name) && !isNeverStored(canonical) && canonical != http.CanonicalHeaderKey(keyHeader)
}

// storedFields returns the canonical names of the response fields that a middleware stores: those
// that are always stored, those of its profile, and those of Config.Response.KeepHeaders.
func (c *Config) storedFields() map[string]struct{} {
	fields := make(map[string]struct{})
	for _, name := range slices.Concat(DefaultKeepHeaders(), c.Profile.keepHeaders(), c.Response.KeepHeaders) {
		fields[http.CanonicalHeaderKey(name)] = struct{}{}
	}
	return fields
}

// maxHeaderBytes limits the stored header fields and trailers of a response.
const maxHeaderBytes = 64 << 10

// storedHeader returns the header fields and the trailers that are stored, as a client would
// receive them. fits reports whether they are within the limit.
func (m *Middleware) storedHeader(c *capture) (kept http.Header, fits bool) {
	kept = make(http.Header)
	size := 0
	keep := func(name string, values []string) {
		for _, value := range values {
			if strings.ContainsRune(value, 0) {
				continue // clients refuse such a value
			}
			value = strings.TrimSpace(onWire.Replace(value))
			kept[name] = append(kept[name], value)
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	header := c.header()
	for set, values := range header {
		name := http.CanonicalHeaderKey(set) // a handler can write the name in any case
		if _, wanted := m.storedFields[name]; !wanted || inList(header["Connection"], name) {
			continue // it is not a stored field, or is about this connection
		}
		if name == "Content-Encoding" && slices.Equal(values, c.before.get(set)) {
			continue // it belongs to a compressor outside, and the stored body is not encoded
		}
		keep(name, values)
	}
	for name, values := range c.trailers() {
		keep(trailerPrefix+name, values)
	}
	if _, set := header["Content-Type"]; !set && kept.Get("Content-Encoding") == "" && header.Get("Transfer-Encoding") == "" &&
		len(c.body) > 0 {
		kept.Add("Content-Type", http.DetectContentType(c.body)) // as the server does
	}
	return kept, size <= min(maxHeaderBytes, m.maxValueBytes)
}

// onWire changes a field value as net/http does when it writes the header.
var onWire = strings.NewReplacer("\r", " ", "\n", " ")
