package gateway

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// lastStatus is the highest valid status (RFC 9110, section 15).
const lastStatus = 599

var errNoStatus = errors.New("the upstream sent an invalid status")

// protectedProxy returns the proxy for the protected requests of a policy. keep decides which
// responses are stored.
func (g *generation) protectedProxy(p *Policy, keep httpidem.StatusPolicy, prefetch func(*http.Response) error) http.Handler {
	proxy := g.proxyOf(p)
	proxy.ModifyResponse = func(answer *http.Response) error {
		if answer.StatusCode > lastStatus {
			return errNoStatus
		}
		if answer.StatusCode != http.StatusSwitchingProtocols { // its body is the connection
			if err := prefetch(answer); err != nil {
				return err
			}
			answer.Body = &trackedBody{answer.Body, answer.Request.Context()}
		}
		if len(answer.Trailer) > 0 {
			answer.Header.Del("Content-Length") // with a length, HTTP/1 has no trailers
		}
		// A 4xx means that the upstream has refused the request. The outcome of this attempt is
		// known, so it does not count.
		ctx := answer.Request.Context()
		status := httpidem.EquivalentStatus(answer.StatusCode, answer.Header, answer.Trailer)
		if st := httpidem.Stage(ctx); st != nil && status/100 == 4 && keep.Of(status, answer.Header, st.Attempt()) != httpidem.DispositionKeep {
			httpidem.NothingDone(ctx)
		}
		return nil
	}
	return proxy
}

// prefetchBody returns a function that reads the part of a response body that the middleware holds
// back. If the body breaks off there, the error comes before anything was sent, and the gateway can
// still send a problem. A response that is streamed is not read.
func prefetchBody(limit int, stream bool) func(*http.Response) error {
	return func(answer *http.Response) error {
		if httpidem.Stage(answer.Request.Context()) == nil {
			return nil // the response is not held back
		}
		if stream && isStream(answer) {
			return nil // ReverseProxy flushes these
		}
		head, err := readHead(answer, limit+1)
		if err != nil {
			return err
		}
		body := &prefetchedBody{rest: answer.Body}
		body.head.Reset(head)
		answer.Body = body
		return nil
	}
}

// isStream reports whether a response is of unknown length or an event stream.
func isStream(answer *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	return answer.ContentLength < 0 || kind == "text/event-stream"
}

// readHead reads a response body up to its end or up to limit bytes.
func readHead(answer *http.Response, limit int) ([]byte, error) {
	if answer.Body == http.NoBody { // with HEAD the length is that of another response
		return nil, nil
	}
	size := bytes.MinRead
	if answer.ContentLength >= 0 && answer.ContentLength < int64(limit) {
		size = int(answer.ContentLength) + 1 // the last byte is for the end
	}
	head := make([]byte, 0, size)
	for len(head) < limit {
		if len(head) == cap(head) {
			head = slices.Grow(head, bytes.MinRead)
		}
		n, err := answer.Body.Read(head[len(head):min(cap(head), limit)])
		head = head[:len(head)+n]
		if err == io.EOF { //nolint:errorlint // a reader returns it as it is
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return head, nil
}

// prefetchedBody is a response body whose beginning was read.
type prefetchedBody struct {
	head bytes.Reader
	rest io.ReadCloser
}

// Read implements [io.Reader].
func (b *prefetchedBody) Read(p []byte) (int, error) {
	if b.head.Len() > 0 {
		return b.head.Read(p)
	}
	return b.rest.Read(p)
}

// Close implements [io.Closer].
func (b *prefetchedBody) Close() error { return b.rest.Close() }
