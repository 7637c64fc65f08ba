package redisidem

import (
	"bytes"
	"fmt"
	"strconv"
)

// Codec changes values (params, state, response headers and bodies) on their way to Redis and back: see [NewEncryption] and
// [NewCompression], and [Codecs] for both. It must be safe for concurrent use.
type Codec interface {
	// Encode returns the bytes to store. place names the record, the field and what the value goes with: the same bytes are
	// given to Decode, and a codec that authenticates binds the value to them.
	Encode(plain, place []byte) ([]byte, error)
	// Decode returns what Encode was given, which is at most limit bytes long. It must refuse a longer result with an error, and
	// must not allocate much more than limit: what is stored may come from an attacker. An error makes the record an
	// ErrDamaged, never an absent one.
	Decode(stored, place []byte, limit int) ([]byte, error)
}

// Codecs makes one codec of several, which are applied in their order on the way to Redis. Compression must come before
// encryption: what is encrypted cannot be compressed. Mind that the length of what is compressed first tells a little about it.
func Codecs(codecs ...Codec) Codec { return chain(codecs) }

type chain []Codec

// Encode implements [Codec].
func (c chain) Encode(value, place []byte) (_ []byte, err error) {
	for _, codec := range c {
		if value, err = codec.Encode(value, place); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// Decode implements [Codec].
func (c chain) Decode(value, place []byte, limit int) (_ []byte, err error) {
	for i := len(c) - 1; i >= 0; i-- {
		bound := limit
		if i > 0 {
			bound = encodedLimit(limit) // the result is what the codec before made of the value
		}
		if value, err = c[i].Decode(value, place, bound); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// encodedLimit bounds what codecs make of a value of at most limit bytes: text encodings double it, and keys, nonces and tags
// are of a fixed size.
func encodedLimit(limit int) int { return 2*limit + 4096 }

// errTooLong is the error of a decoder whose result would be longer than its limit.
func errTooLong(limit int) error { return fmt.Errorf("decodes to more than %d bytes", limit) }

// Values that a codec has made begin with codedMark. So do plain ones that happen to begin like a mark, behind plainMark: what
// is stored always tells what it is.
const (
	codedMark = "\x00\xffridem\x01c"
	plainMark = "\x00\xffridem\x01p"
	markStem  = "\x00\xffridem\x01"
)

// vault stores and reads the values of records.
type vault struct {
	codec Codec // nil for none
	// lenient accepts plain values although there is a codec.
	lenient bool
	// limit is Config.MaxValueBytes, which bounds values in both directions.
	limit int
}

// store returns the bytes to store for a value of a record.
func (v vault) store(id identity, fingerprint, field string, code int, plain []byte) ([]byte, error) {
	if v.codec == nil {
		if bytes.HasPrefix(plain, []byte(markStem)) {
			return append([]byte(plainMark), plain...), nil
		}
		return plain, nil
	}
	coded, err := v.codec.Encode(plain, place(id, fingerprint, field, code))
	if err != nil {
		return nil, &InvalidError{Field: field, Reason: "cannot be encoded by Config.Codec: " + err.Error(), Err: err}
	}
	return append([]byte(codedMark), coded...), nil
}

// read returns the value that store was given.
func (v vault) read(id identity, fingerprint, field string, code int, stored []byte) ([]byte, error) {
	plain, err := v.decode(id, fingerprint, field, code, stored)
	if err == nil && len(plain) > v.limit {
		return nil, damaged("%s is %d bytes, more than MaxValueBytes (%d)", field, len(plain), v.limit)
	}
	return plain, err
}

func (v vault) decode(id identity, fingerprint, field string, code int, stored []byte) ([]byte, error) {
	rest, coded := bytes.CutPrefix(stored, []byte(codedMark))
	switch {
	case coded && v.codec == nil:
		return nil, damaged("%s is encoded, and there is no Config.Codec", field)
	case coded:
		plain, err := v.codec.Decode(rest, place(id, fingerprint, field, code), v.limit)
		if err != nil {
			return nil, damaged("%s cannot be decoded by Config.Codec within MaxValueBytes (%d): %v", field, v.limit, err)
		}
		return plain, nil
	case v.codec != nil && !v.lenient:
		return nil, damaged("%s is not encoded, and Config.CodecOptional is not set", field)
	}
	rest, marked := bytes.CutPrefix(stored, []byte(plainMark))
	if !marked && bytes.HasPrefix(stored, []byte(markStem)) {
		return nil, damaged("%s is encoded in an unknown way", field)
	}
	return rest, nil
}

// place names a value for a codec: whose it is, what it is, and the status it goes with.
func place(id identity, fingerprint, field string, code int) []byte {
	b := append(make([]byte, 0, 256), "redisidem/value/1"...)
	for _, part := range []string{id.record, fingerprint, field, strconv.Itoa(code)} {
		b = appendPart(b, part)
	}
	return b
}
