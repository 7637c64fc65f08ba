package gateway

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// The fields that describe the caller's request in a check of its authorization.
const (
	methodHeader = "X-Forwarded-Method"
	uriHeader    = "X-Forwarded-Uri"
)

var errAnswered = errors.New("the upstream reported whether the caller is authorized")

// authorize returns a Config.Authorize that asks the upstream whether a caller is authorized.
// Replays do not reach the upstream, so it could not check them otherwise.
func (g *generation) authorize(where *url.URL) func(*http.Request) error {
	return func(r *http.Request) error {
		q := newCheckRequest(r, where)
		q.Header.Set(methodHeader, r.Method)
		q.Header.Set(uriHeader, rawTarget(r.URL))

		err := error(&httpidem.DeniedError{Status: http.StatusServiceUnavailable})
		proxy := *g.proxy
		proxy.ModifyResponse = func(answer *http.Response) error {
			switch status := answer.StatusCode; {
			case status >= 200 && status < 300:
				err = nil
			case status == http.StatusUnauthorized, status == http.StatusForbidden:
				err = &httpidem.DeniedError{Status: status}
				requestLogOf(r.Context()).challenges = answer.Header["Www-Authenticate"]
			}
			return errAnswered
		}
		proxy.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, failure error) {
			if failure != errAnswered { //nolint:errorlint // it comes as it was returned
				err = &httpidem.DeniedError{Status: http.StatusServiceUnavailable, Err: errors.New(errorKind(failure))}
			}
		}
		proxy.ServeHTTP(discard{}, q)
		return err
	}
}

// discard discards a response.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
