package httpidem

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/redisidem/redisidem/redisidem"
)

// replay answers with a stored response.
func (x *keyedRequest) replay(stored *redisidem.Response) {
	m := x.middleware
	switch {
	case stored.Header[notKeptHeader] != nil:
		x.refuseGone(stored.Code, nil)
		return
	case stored.Code != 0 && stored.Code < 200:
		x.refuse(m.problem(ResultFailed), redisidem.ErrDamaged)
		return
	}
	h := x.w.Header()
	encoded := h.Get("Content-Encoding") != "" // a compressor outside will change the length
	// A missing Content-Type would make the server guess one.
	h["Content-Type"] = nil
	for name, values := range stored.Header {
		if name = http.CanonicalHeaderKey(name); !isNeverStored(name) {
			h[name] = append([]string(nil), values...)
		}
	}
	m.markReplay(h)
	// A shared cache must not give the response to other callers.
	h.Set("Cache-Control", "no-store")
	status := statusOf(stored)
	var setTrailers func()
	if bodyAllowed(status) && x.r.Method != http.MethodHead {
		setTrailers = replayTrailers(h, stored.Header)
	}
	// HEAD may declare another length. With a length, HTTP/1 has no trailers.
	if bodyAllowed(status) && !encoded && x.r.Method != http.MethodHead && setTrailers == nil {
		h.Set("Content-Length", strconv.Itoa(len(stored.Body)))
	}
	x.observe(ResultReplayed, status, nil)
	x.w.WriteHeader(status)
	if bodyAllowed(status) {
		_, _ = x.w.Write(stored.Body) // the client may have disconnected
	}
	if setTrailers != nil {
		setTrailers()
	}
}

// statusOf returns the status with which a response is sent, as [redisidem.Response.Write] does.
func statusOf(r *redisidem.Response) int {
	if r.IsZero() {
		return http.StatusNoContent
	}
	return cmp.Or(r.Code, http.StatusOK)
}

// refuseGone answers a retry of a request that was executed, and whose response was not kept.
// original is the status of that response, or 0. The sender of a webhook gets a 200: it does not
// need the response, and a 410 can make it stop all deliveries.
func (x *keyedRequest) refuseGone(original int, err error) {
	m := x.middleware
	if m.verify == nil {
		p := m.problem(ResultGone)
		p.OriginalStatus = original
		x.refuse(p, err)
		return
	}
	h := x.w.Header()
	m.markReplay(h)
	h.Set("Cache-Control", "no-store")
	x.observe(ResultGone, http.StatusOK, err)
	x.w.WriteHeader(http.StatusOK)
}
