package httpidem

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// notKeptHeader marks a stored response that says only that the request was executed. No handler's
// field gets under this name: isNeverStored knows it.
const notKeptHeader = "Redisidem-Not-Kept"

// maxHeaderBytes bounds the stored fields of an answer.
const maxHeaderBytes = 64 << 10

// notKept is what is stored of an answer that cannot be given again.
func notKept(status int) redisidem.Response {
	if status < 200 || status > 599 {
		status = 0 // no status that could be stored
	}
	return redisidem.Response{Code: status, Header: map[string][]string{notKeptHeader: {"1"}}}
}

// stored returns what is stored of an answer that was held back.
func (m *Middleware) stored(c *capture) redisidem.Response {
	header, fits := m.storedHeader(c)
	if m.cfg.Response.Drop || !fits || c.status < 200 || c.status > 599 {
		return notKept(c.status)
	}
	return redisidem.Response{Code: c.status, Header: header, Body: c.body}
}

// storedHeader returns the fields of an answer that are stored, as a client would have got them,
// and whether they are few enough.
func (m *Middleware) storedHeader(c *capture) (kept http.Header, fits bool) {
	kept = make(http.Header)
	size := 0
	for set, values := range c.header {
		name := http.CanonicalHeaderKey(set) // a handler can put a name into the map as it likes, and the server sends it so
		if _, wanted := m.storedFields[name]; !wanted || inList(c.header["Connection"], name) {
			continue // it is not to be kept, or about this connection
		}
		if name == "Content-Encoding" && slices.Equal(values, c.before[set]) {
			continue // it describes the encoding of a compressor outside, and the stored body is not encoded
		}
		for _, value := range values {
			if strings.ContainsRune(value, 0) {
				continue // no client gets that through
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

// onWire does to a field's value what net/http does when it writes it.
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
	encoded := h.Get("Content-Encoding") != "" // by a compressor outside, so that the length is going to be another one
	// Without a Content-Type in the map the server would make one up.
	h["Content-Type"] = nil
	for name, values := range stored.Header {
		if name = http.CanonicalHeaderKey(name); !isNeverStored(name) {
			h[name] = append([]string(nil), values...)
		}
	}
	m.cfg.Profile.markReplay(h)
	// Shared caches are not to pass it on to others.
	h.Set("Cache-Control", "no-store")
	status := stored.Code
	if status == 0 {
		status = http.StatusOK
	}
	if bodyAllowed(status) && !encoded && x.r.Method != http.MethodHead { // which may have another length
		h.Set("Content-Length", strconv.Itoa(len(stored.Body)))
	}
	m.observe(x.r.Context(), ResultReplayed, status, nil)
	x.w.WriteHeader(status)
	if bodyAllowed(status) {
		_, _ = x.w.Write(stored.Body) // the client may have gone
	}
}
