package httpidem

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// notKeptHeader marks a stored response that records only that the request was executed. A handler
// cannot set it: isNeverStored has the name.
const notKeptHeader = "Redisidem-Not-Kept"

// maxHeaderBytes limits the stored header fields of a response.
const maxHeaderBytes = 64 << 10

// notKept returns the record of a response that is not stored.
func notKept(status int) redisidem.Response {
	if status < 200 || status > 599 {
		status = 0 // it cannot be stored
	}
	return redisidem.Response{Code: status, Header: map[string][]string{notKeptHeader: {"1"}}}
}

// stored returns the record of a response that was held back.
func (m *Middleware) stored(c *capture) redisidem.Response {
	header, fits := m.storedHeader(c)
	if m.cfg.Response.Drop || !fits || c.status < 200 || c.status > 599 {
		return notKept(c.status)
	}
	return redisidem.Response{Code: c.status, Header: header, Body: c.body}
}

// storedHeader returns the header fields that are stored, as a client would receive them. fits
// reports whether they are within the limit.
func (m *Middleware) storedHeader(c *capture) (kept http.Header, fits bool) {
	kept = make(http.Header)
	size := 0
	for set, values := range c.header {
		name := http.CanonicalHeaderKey(set) // a handler can write the name in any case
		if _, wanted := m.storedFields[name]; !wanted || inList(c.header["Connection"], name) {
			continue // it is not a stored field, or is about this connection
		}
		if name == "Content-Encoding" && slices.Equal(values, c.before[set]) {
			continue // it belongs to a compressor outside, and the stored body is not encoded
		}
		for _, value := range values {
			if strings.ContainsRune(value, 0) {
				continue // clients refuse such a value
			}
			value = strings.TrimSpace(onWire.Replace(value))
			kept[name] = append(kept[name], value)
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	if _, set := c.header["Content-Type"]; !set && kept.Get("Content-Encoding") == "" && c.header.Get("Transfer-Encoding") == "" &&
		len(c.body) > 0 {
		kept.Add("Content-Type", http.DetectContentType(c.body)) // as the server does
	}
	return kept, size <= min(maxHeaderBytes, m.maxValueBytes)
}

// onWire changes a field value as net/http does when it writes the header.
var onWire = strings.NewReplacer("\r", " ", "\n", " ")

// replay answers with a stored response.
func (x *keyedRequest) replay(stored *redisidem.Response) {
	m := x.middleware
	switch {
	case stored == nil || stored.Header[notKeptHeader] != nil:
		p := m.problem(ResultGone)
		if stored != nil {
			p.OriginalStatus = stored.Code
		}
		m.refuse(x.w, x.r, p, nil)
		return
	case stored.Code != 0 && stored.Code < 200:
		m.refuse(x.w, x.r, m.problem(ResultFailed), redisidem.ErrDamaged)
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
	m.cfg.Profile.markReplay(h)
	// A shared cache must not give the response to other callers.
	h.Set("Cache-Control", "no-store")
	status := stored.Code
	if status == 0 {
		status = http.StatusOK
	}
	if bodyAllowed(status) && !encoded && x.r.Method != http.MethodHead { // HEAD may declare another length
		h.Set("Content-Length", strconv.Itoa(len(stored.Body)))
	}
	m.observe(x.r.Context(), ResultReplayed, status, nil)
	x.w.WriteHeader(status)
	if bodyAllowed(status) {
		_, _ = x.w.Write(stored.Body) // the client may have disconnected
	}
}
