package gateway

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// lastStatus is the highest valid status (RFC 9110, section 15).
const lastStatus = 599

var errNoStatus = errors.New("the upstream sent an invalid status")

// protectedProxy returns the proxy for the protected requests of a policy. keep decides which
// responses are stored.
func (g *Gateway) protectedProxy(p *Policy, keep httpidem.StatusPolicy, prefetch func(*http.Response) error) http.Handler {
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
		// A 4xx means that the upstream has refused the request. The outcome of this attempt is
		// known, so it does not count.
		ctx := answer.Request.Context()
		if st := httpidem.Stage(ctx); st != nil && answer.StatusCode/100 == 4 &&
			keep.Of(answer.StatusCode, answer.Header, st.Attempt()) != httpidem.DispositionKeep {
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
		if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); stream &&
			(answer.ContentLength < 0 || kind == "text/event-stream") {
			return nil // ReverseProxy flushes these
		}
		head, err := io.ReadAll(io.LimitReader(answer.Body, int64(limit)+1))
		if err != nil {
			return err
		}
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), answer.Body), answer.Body}
		return nil
	}
}
