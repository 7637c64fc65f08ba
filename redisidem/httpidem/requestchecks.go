package httpidem

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// keyedRequest is a request with a key: the values that the service needs to run it, and the writer
// of its response.
type keyedRequest struct {
	middleware *Middleware
	w          http.ResponseWriter
	r          *http.Request
	echo       string // the key in the form that the client used, or empty if it cannot be read
	key        string
	scope      *redisidem.Scope
	request    redisidem.Request
	version    byte // of the fingerprint in request
	body       []byte
	slot       quotaSlot // in the quota of its scope
}

// resolve checks a request and returns the values to run it with. It calls the store only for a
// scope that has used up its quota. If the request is refused, it writes the response and returns
// nil. If the request has no key and needs none, it returns nil and bypass.
//
// The order is: the request itself, the scope, the rights, the quota, and last the body. The caller
// releases the slot of the keyedRequest when the request ends.
func (m *Middleware) resolve(w http.ResponseWriter, r *http.Request) (x *keyedRequest, bypass bool) {
	key, echo, result, err := m.keyOf(r)
	if result == ResultBypassed {
		return nil, true
	}
	x = &keyedRequest{middleware: m, w: w, r: r, key: key, echo: echo}
	x.setOwnFields(w.Header())
	if err != nil {
		p := m.problem(result)
		if syntax := (*idemheader.SyntaxError)(nil); errors.As(err, &syntax) {
			p.Detail = "The key " + syntax.Reason + "."
		}
		m.refuse(w, r, p, err)
		return nil, false
	}
	scope, err := m.scope(r)
	switch {
	case err != nil:
		m.refuse(w, r, m.problem(ResultNoScope), err)
		return nil, false
	case scope == "" || len(scope) > m.maxScopeBytes:
		err := invalid("scope", "must have 1 to %d bytes: %d", m.maxScopeBytes, len(scope))
		m.refuse(w, r, m.problem(ResultFailed), err)
		return nil, false
	}
	x.scope = m.service.Scope(scope).Wait(m.cfg.Wait)
	if !x.authorized() {
		return nil, false
	}
	if !x.admit() {
		return nil, false
	}
	if !x.read() {
		return nil, false
	}
	return x, false
}

// read reads the body and computes the fingerprint. If it fails, it refuses the request and
// releases its slot.
func (x *keyedRequest) read() (ok bool) {
	defer func() {
		if !ok { // also after a panic in a function of the program
			x.slot.release()
		}
	}()
	m := x.middleware
	var err error
	if x.body, err = readBody(x.r, m.cfg.MaxBodyBytes); err == nil {
		err = x.fingerprint(&m.cfg.Fingerprint)
	}
	if err != nil {
		result := ResultBodyUnreadable
		if errors.Is(err, errBodyTooLarge) {
			result = ResultBodyTooLarge
		}
		m.refuse(x.w, x.r, m.problem(result), err)
	}
	return err == nil
}

// keyOf returns the checked key of a request, and the text that echoes it. With an error it also
// returns the result, and the echo if KeyConfig.Check returned the error.
func (m *Middleware) keyOf(r *http.Request) (key, echo string, result Result, err error) {
	lines := r.Header[m.cfg.Key.Header]
	switch {
	case len(lines) == 0 && m.cfg.Key.Generate != nil:
		key = m.cfg.Key.Generate()
	case len(lines) == 0 && m.cfg.Key.Optional:
		return "", "", ResultBypassed, nil
	case len(lines) == 0:
		return "", "", ResultMissing, errMissing
	default:
		if key, err = idemheader.Parse(lines, m.cfg.Key.Strict); err != nil {
			return "", "", ResultMalformed, err
		}
	}
	if len(key) > m.cfg.Key.MaxBytes {
		err := &idemheader.SyntaxError{Reason: "must not be longer than " + strconv.Itoa(m.cfg.Key.MaxBytes) + " bytes"}
		return "", "", ResultMalformed, err
	}
	// The echo has the client's form, quoted or not, but is formatted from the parsed key.
	// Unchecked text is never reflected.
	echo = key
	if len(lines) == 0 || idemheader.IsQuoted(lines[0]) {
		if echo, err = idemheader.Format(key); err != nil {
			return "", "", ResultMalformed, err
		}
	}
	if m.cfg.Key.Check != nil {
		if err := m.cfg.Key.Check(key); err != nil {
			if window := (*WindowError)(nil); errors.As(err, &window) {
				return "", echo, ResultKeyOutOfWindow, err
			}
			return "", echo, ResultKeyRefused, err
		}
	}
	return key, echo, 0, nil
}

var errMissing = errors.New("httpidem: the request has no key")

// maxPathBytes limits the part of the path that is stored for operators. The fingerprint covers the
// whole path.
const maxPathBytes = 1024

// fingerprint sets the redisidem.Request of x, with the fingerprint that f computes. Only the
// method and the path of the request are stored. Params holds the version of the fingerprint.
func (x *keyedRequest) fingerprint(f *Fingerprint) error {
	sum, err := f.of(x.r, x.body)
	if err != nil {
		return err
	}
	p := path(x.r)
	x.request = redisidem.Request{
		Method: x.r.Method, Path: p[:min(len(p), maxPathBytes)], Params: []byte{f.Version}, Fingerprint: sum,
	}
	x.version = f.Version
	return nil
}

// refingerprint computes the fingerprint in the version of the key's record. It reports false if
// that version is the current one or is unknown.
func (x *keyedRequest) refingerprint() bool {
	others := x.middleware.cfg.OtherFingerprints
	if len(others) == 0 {
		return false
	}
	key, err := x.scope.Retrieve(x.r.Context(), x.key)
	if err != nil || len(key.Params) != 1 || key.Params[0] == x.version {
		return false
	}
	i := slices.IndexFunc(others, func(f Fingerprint) bool { return f.Version == key.Params[0] })
	return i >= 0 && x.fingerprint(&others[i]) == nil
}

// setOwnFields sets the fields of every response to a request with a key. It removes the fields
// that only the middleware may set.
func (x *keyedRequest) setOwnFields(h http.Header) {
	m := x.middleware
	marks := m.cfg.Profile.marks()
	for _, name := range marks {
		h.Del(name)
	}
	if x.echo != "" {
		h.Set(m.cfg.Key.Header, x.echo)
		addToList(h, "Access-Control-Expose-Headers", m.cfg.Key.Header)
		addToList(h, "Access-Control-Expose-Headers", marks...)
	}
	if m.cfg.PublishRetention {
		h.Set(idemheader.Retention, m.retention)
	}
}
