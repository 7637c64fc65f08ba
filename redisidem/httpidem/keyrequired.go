package httpidem

import "errors"

// keyIfMissing returns the generated key for a request without a key. If no key is generated, the
// result is ResultBypassed for an optional key, and ResultMissing for a required one.
func (m *Middleware) keyIfMissing() (key string, result Result, err error) {
	switch {
	case m.cfg.Key.Generate != nil:
		return m.cfg.Key.Generate(), 0, nil
	case m.cfg.Key.Optional:
		return "", ResultBypassed, nil
	}
	return "", ResultMissing, errMissing
}

var errMissing = errors.New("httpidem: the request has no key")
