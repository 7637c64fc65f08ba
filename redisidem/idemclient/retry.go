package idemclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// defaultStatuses are the statuses that are retried without TransportConfig.Statuses: another
// attempt is still at work, and the service cannot answer now.
var defaultStatuses = []int{http.StatusConflict, http.StatusServiceUnavailable}

// mayBeRetryable reports whether TransportConfig.Statuses can have a status. 400 and 422 are about
// the request, which stays the same.
func mayBeRetryable(status int) bool {
	return status >= 400 && status <= 599 && status != http.StatusBadRequest && status != http.StatusUnprocessableEntity
}

// isRetryable reports whether another attempt may have another result.
func (t *Transport) isRetryable(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		return !isPermanent(req, err)
	}
	return slices.Contains(t.cfg.Statuses, resp.StatusCode) && resp.Header.Get(idemheader.Replayed) != "true"
}

// isPermanent reports whether an error occurred before anything was sent, and would occur again.
// Unknown errors are treated as transient.
func isPermanent(req *http.Request, err error) bool {
	if isUntrusted(err) {
		return true
	}
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(header.RecordHeader[:]) == "HTTP/" {
		return true // the server does not speak TLS
	}
	// net/http exports no error for the requests that it refuses.
	return !isWellFormed(req) || strings.Contains(err.Error(), "unsupported protocol scheme")
}

// isUntrusted reports whether the certificate of a server was refused, by crypto/tls or by a
// function of the program.
func isUntrusted(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// isWellFormed reports whether HTTP can carry a request.
func isWellFormed(req *http.Request) bool {
	u := req.URL
	if u == nil || u.Host == "" && (u.Scheme == "http" || u.Scheme == "https") || req.Method != "" && !httptoken.Valid(req.Method) {
		return false
	}
	control := func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
	for _, fields := range []http.Header{req.Header, req.Trailer} {
		for name, values := range fields {
			if !httptoken.Valid(name) || slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, control) }) {
				return false
			}
		}
	}
	return true
}
