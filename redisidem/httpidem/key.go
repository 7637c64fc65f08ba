package httpidem

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// KeyConfig configures how the key of a request is read and checked. Zero fields mean their
// defaults.
type KeyConfig struct {
	// Header is the name of the header field that carries the key. Default: Idempotency-Key.
	Header string

	// Sources are the places where the key is looked for, in their order, in place of Header. The
	// first one that a request has counts, also if it does not hold a valid key. Responses carry
	// the key in the field Header. With a source in the body, the body is read before the scope
	// function is called. Default: the field Header.
	Sources []KeySource

	// Optional lets requests without a key go to the handler without protection. By default they
	// are answered with 400.
	Optional bool

	// Generate returns a key for a request that has none, and implies Optional. The response
	// carries the key. A client that loses this response does not know the key: only a key of the
	// client's own makes its retry safe. It is called concurrently. Default: no key is generated.
	Generate func() string

	// Strict accepts only keys in double quotes, as the draft requires. By default keys without
	// quotes are accepted too, see [idemheader.Parse].
	Strict bool

	// MaxBytes limits the length of a key. Default and maximum: the service's MaxKeyBytes.
	MaxBytes int

	// Check returns an error for a key that the API does not accept, which is answered with 400
	// before the store is called: see [UUIDKeys], [MinKeyBytes] and [KeysWithin]. The client is
	// shown the Reason of an [*idemheader.SyntaxError]. It must not block, and is called
	// concurrently. Default: every key that can be parsed is accepted.
	Check func(key string) error
}

// requestKey is the checked key of a request, and the text that echoes it. With an error it also
// has the result, and the echo if KeyConfig.Check returned the error.
type requestKey struct {
	key, echo string
	result    Result
	err       error
}

// keyOf reads the key of a request. The result is ResultBypassed if the request has no key and
// needs none. body is that of the request if a key may be in it.
func (m *Middleware) keyOf(r *http.Request, body []byte) (k requestKey) {
	k.key, k.echo, k.result, k.err = m.readKey(r, body)
	return k
}

// sent returns the key as the request has it.
func (m *Middleware) sent(r *http.Request, body []byte) (k sentKey, err error) {
	if m.cfg.Key.Sources == nil {
		return headerKey(r.Header[m.cfg.Key.Header], m.cfg.Key.Strict)
	}
	for i := range m.cfg.Key.Sources {
		if k, err = m.cfg.Key.Sources[i].read(r, body, m.cfg.Key.Strict); k.found || err != nil {
			break
		}
	}
	return k, err
}

func (m *Middleware) readKey(r *http.Request, body []byte) (key, echo string, result Result, err error) {
	sent, err := m.sent(r, body)
	if err != nil {
		return "", "", ResultMalformed, err
	}
	if key = sent.key; !sent.found {
		if key, result, err = m.keyIfMissing(); result != 0 {
			return "", "", result, err
		}
	}
	if len(key) > m.cfg.Key.MaxBytes {
		err := &idemheader.SyntaxError{Reason: "must not be longer than " + strconv.Itoa(m.cfg.Key.MaxBytes) + " bytes"}
		return "", "", ResultMalformed, err
	}
	// The echo has the client's form, quoted or not, but is formatted from the parsed key.
	// Unchecked text is never reflected.
	echo = key
	if !sent.found || sent.quoted {
		if echo, err = idemheader.Format(key); err != nil {
			return "", "", ResultMalformed, err
		}
	}
	if m.cfg.Key.Check != nil {
		if err := m.cfg.Key.Check(key); err != nil {
			if _, ok := errors.AsType[*WindowError](err); ok {
				return "", echo, ResultKeyOutOfWindow, err
			}
			return "", echo, ResultKeyRefused, err
		}
	}
	return key, echo, 0, nil
}
