package extproc

import (
	"bytes"
	"net/http"
	"strings"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// recorder keeps the response of a handler.
type recorder struct {
	fields http.Header // as the handler has it, trailers included
	header http.Header // as it was with the status; nil before that
	status int
	body   bytes.Buffer
	broken bool // the handler broke the response off
}

func newRecorder() *recorder { return &recorder{fields: make(http.Header)} }

// Header implements [http.ResponseWriter].
func (w *recorder) Header() http.Header { return w.fields }

// WriteHeader implements [http.ResponseWriter].
func (w *recorder) WriteHeader(status int) {
	if status < 200 || w.header != nil {
		return // interim responses are left to Envoy
	}
	w.status, w.header = status, w.fields.Clone()
}

// Write implements [http.ResponseWriter].
func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// same reports whether the response is that of the upstream, its header aside.
func (w *recorder) same(upstream *http.Response, body []byte) bool {
	w.WriteHeader(http.StatusOK)
	return w.status == upstream.StatusCode && bytes.Equal(w.body.Bytes(), body)
}

// hasTrailers reports whether the response has trailers.
func (w *recorder) hasTrailers() bool {
	for name := range w.fields {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	for _, names := range w.header["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			if len(w.fields[http.CanonicalHeaderKey(strings.TrimSpace(name))]) > 0 {
				return true
			}
		}
	}
	return false
}

// immediate returns the response in the form in which Envoy sends it in place of the upstream's.
func (w *recorder) immediate() *extproc.ImmediateResponse {
	w.WriteHeader(http.StatusOK)
	status, header, body := w.status, w.header, w.body.Bytes()
	switch {
	case w.broken:
		status, header, body = http.StatusBadGateway, nil, nil
	case w.hasTrailers():
		// It must not look whole without them.
		status, header = http.StatusNotImplemented, http.Header{"Content-Type": {"application/problem+json"}}
		body = []byte(`{"type":"about:blank","title":"The stored response has trailers","status":501,` +
			`"detail":"An external processor of Envoy cannot send trailers. The request was executed before, and was not repeated."}`)
	}
	return &extproc.ImmediateResponse{
		Status:  &envoytype.HttpStatus{Code: envoytype.StatusCode(status)}, //nolint:gosec // net/http bounds it
		Headers: changes(nil, header), Body: body, Details: "redisidem",
	}
}
