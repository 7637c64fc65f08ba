package httpidem

import (
	"errors"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// KeyConfig configures how the key of a request is read and checked. Zero fields mean their
// defaults.
type KeyConfig struct {
	// Header is the name of the header field that carries the key. Default: Idempotency-Key.
	Header string

	// Sources are the places where the key is looked for, in their order, in place of Header. The
	// first one that a request has counts, also if it does not hold a valid key. Those in the body
	// must be the last ones. Responses carry the key in the field Header. Default: the field
	// Header.
	//
	// A body is read only for a request that has its key nowhere else, and after the scope, the
	// rights and the quota of its caller were checked. So a request whose key may be in its body
	// needs a scope even with Optional, and a quota that is used up refuses it although its key may
	// have a stored response.
	Sources []KeySource

	// Prefix is put before each key in the store. Middleware with different prefixes has different
	// records for the same key of a scope. Set it where keys are values such as the number of an
	// order, which other routes of the scope may use too. Responses carry the key without it.
	// Default: empty.
	Prefix string

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

	// MaxBytes limits the length of a key. Default and maximum: the service's MaxKeyBytes, less the
	// length of Prefix.
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

// keyOf checks the key that a request has, or generates one. The result is ResultBypassed if the
// request has no key and needs none. err is that of reading the key.
func (m *Middleware) keyOf(sent sentKey, err error) (k requestKey) {
	k.key, k.echo, k.result, k.err = m.checkKey(sent, err)
	return k
}

func (m *Middleware) checkKey(sent sentKey, err error) (key, echo string, result Result, _ error) {
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
