package httpidem

import (
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// trailerPrefix marks a stored header field that is a trailer of the response. A handler cannot set
// it: isNeverStored has the prefix.
const trailerPrefix = "Idempotency-Trailer-"

// trailers returns the trailers of the handler's response as net/http sends them: the fields with
// [http.TrailerPrefix], and those that were declared before the header was sent.
func (c *capture) trailers() http.Header {
	if c.length >= 0 && c.request.r.ProtoMajor < 2 {
		return nil // with a Content-Length, HTTP/1 has none
	}
	live := c.w.Header()
	var trailers http.Header
	add := func(name string, values []string) {
		name = http.CanonicalHeaderKey(name)
		if len(values) == 0 || !mayBeTrailer(name) {
			return
		}
		if trailers == nil {
			trailers = make(http.Header)
		}
		trailers[name] = values
	}
	for name, values := range live {
		if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(trailer, values)
		}
	}
	for _, line := range c.header()["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
			add(name, live[name])
		}
	}
	return trailers
}

// mayBeTrailer reports whether a field, in canonical form, may be stored as a trailer.
func mayBeTrailer(name string) bool { return httptoken.Valid(name) && !isNeverStored(name) }

// replayTrailers declares the trailers of a stored response. The function that it returns sets
// them, after the body was written. Without trailers it returns nil.
func replayTrailers(h, stored http.Header) (set func()) {
	trailers := make(http.Header)
	for name, values := range stored {
		if trailer, ok := strings.CutPrefix(http.CanonicalHeaderKey(name), trailerPrefix); ok && mayBeTrailer(trailer) {
			trailers[trailer] = slices.Clone(values)
		}
	}
	if len(trailers) == 0 {
		return nil
	}
	for name := range trailers {
		h.Add("Trailer", name)
	}
	slices.Sort(h["Trailer"])
	return func() {
		for name, values := range trailers {
			h[name] = values
		}
	}
}
