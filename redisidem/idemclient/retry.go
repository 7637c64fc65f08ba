package idemclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// maxDrainBytes is how much of a response body is read before a retry.
const maxDrainBytes = 64 << 10

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

// retryAfter returns the delay that a response asks for with a Retry-After, in seconds or as a
// date; 0 if it asks for none.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	text := resp.Header.Get("Retry-After")
	switch seconds, err := strconv.ParseUint(text, 10, 31); {
	case err == nil:
		return time.Duration(seconds) * time.Second
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// pauseFor waits for d, and returns the context's error if it ends first. Meanwhile it drains and
// closes the body of resp, if there is a response. A connection can be reused only after its body
// was read to the end.
func pauseFor(ctx context.Context, d time.Duration, resp *http.Response) error {
	over, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if resp != nil {
		closeBody := sync.OnceFunc(func() { _ = resp.Body.Close() })
		stop := context.AfterFunc(over, closeBody)
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrainBytes)
		stop()
		closeBody()
	}
	<-over.Done()
	return context.Cause(ctx)
}
