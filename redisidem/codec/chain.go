package codec

import (
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// Chain returns a codec that applies several codecs in their order on the way to Redis, and in the
// reverse order on the way back. Put compression before encryption, since encrypted bytes cannot be
// compressed. The length of a compressed and then encrypted value reveals a little about it.
//
// It returns an error that matches [redisidem.ErrInvalid] if the list is empty or a codec is nil.
func Chain(codecs ...redisidem.Codec) (redisidem.Codec, error) {
	if len(codecs) == 0 {
		return nil, invalid("codecs", "must not be empty")
	}
	for i, c := range codecs {
		if c == nil {
			return nil, invalid(fmt.Sprintf("codecs[%d]", i), "must not be nil")
		}
	}
	return chain(codecs), nil
}

type chain []redisidem.Codec

// Encode implements [redisidem.Codec].
func (c chain) Encode(value, associated []byte) (_ []byte, err error) {
	for _, codec := range c {
		if value, err = codec.Encode(value, associated); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// Decode implements [redisidem.Codec].
func (c chain) Decode(value, associated []byte, limit int) (_ []byte, err error) {
	for i := len(c) - 1; i >= 0; i-- {
		bound := limit
		if i > 0 {
			bound = encodedLimit(limit) // the result is still encoded by the codec before
		}
		if value, err = c[i].Decode(value, associated, bound); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// encodedLimit bounds what codecs make of a value of at most limit bytes: text encodings double it,
// and keys, nonces and tags have a fixed size.
func encodedLimit(limit int) int { return 2*limit + 4096 }

// errTooLong is the error of a decoder whose result would be longer than its limit.
func errTooLong(limit int) error { return fmt.Errorf("decodes to more than %d bytes", limit) }

func invalid(field, format string, args ...any) error {
	return &redisidem.InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
