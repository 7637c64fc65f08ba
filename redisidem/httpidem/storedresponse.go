package httpidem

import "github.com/redisidem/redisidem/redisidem"

// notKeptHeader marks a stored response that records only that the request was executed. A handler
// cannot set it: isNeverStored has the name.
const notKeptHeader = "Redisidem-Not-Kept"

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
