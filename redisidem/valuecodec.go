package redisidem

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Codec encodes values (params, state, response headers and bodies) on their way to Redis and
// decodes them on the way back. Package codec has encryption and compression. A Codec must be safe
// for concurrent use.
type Codec interface {
	// Encode returns the bytes to store. The associated data names the record, the field and the
	// status of the value: Decode gets the same bytes, and a codec that authenticates binds the
	// value to them.
	Encode(plain, associated []byte) ([]byte, error)
	// Decode returns the value that Encode was given, which is at most limit bytes long. It must
	// refuse a longer result with an error, and must not allocate much more than limit, since the
	// stored bytes may come from an attacker. After an error the record is ErrDamaged; it is never
	// treated as absent.
	Decode(stored, associated []byte, limit int) ([]byte, error)
}

// PlainAccepter is implemented by a [Codec] that can also accept values that were stored without a
// codec. Without it, or if AcceptsPlain returns false, such a value is [ErrDamaged].
type PlainAccepter interface {
	AcceptsPlain() bool
}

// An encoded value begins with encodedMark. A plain value that happens to begin with markStem is
// stored behind plainMark, so that the first bytes always say whether a value is encoded.
const (
	encodedMark = "\x00\xffridem\x01c"
	plainMark   = "\x00\xffridem\x01p"
	markStem    = "\x00\xffridem\x01"
)

// valueCodec encodes and decodes the values of records.
type valueCodec struct {
	codec Codec // nil for none
	limit int   // Config.MaxValueBytes, which bounds values in both directions
}

// isEncoded reports whether a stored value was encoded by a codec.
func isEncoded(stored string) bool { return strings.HasPrefix(stored, encodedMark) }

// encode returns the bytes to store for a value of a record.
func (v valueCodec) encode(id identity, fingerprint, field string, code int, plain []byte) ([]byte, error) {
	if v.codec == nil {
		if bytes.HasPrefix(plain, []byte(markStem)) {
			return append([]byte(plainMark), plain...), nil
		}
		return plain, nil
	}
	encoded, err := v.codec.Encode(plain, associatedData(id, fingerprint, field, code))
	if err != nil {
		return nil, &InvalidError{Field: field, Reason: "cannot be encoded by Config.Codec: " + err.Error(), Err: err}
	}
	return append([]byte(encodedMark), encoded...), nil
}

// decode returns the value that encode was given.
func (v valueCodec) decode(id identity, fingerprint, field string, code int, stored []byte) ([]byte, error) {
	plain, err := v.decodeUnbounded(id, fingerprint, field, code, stored)
	if err == nil && len(plain) > v.limit {
		return nil, damaged("%s is %d bytes, more than MaxValueBytes (%d)", field, len(plain), v.limit)
	}
	return plain, err
}

func (v valueCodec) decodeUnbounded(id identity, fingerprint, field string, code int, stored []byte) ([]byte, error) {
	rest, encoded := bytes.CutPrefix(stored, []byte(encodedMark))
	switch {
	case encoded && v.codec == nil:
		return nil, damaged("%s is encoded, and Config.Codec is nil", field)
	case encoded:
		plain, err := v.codec.Decode(rest, associatedData(id, fingerprint, field, code), v.limit)
		if err != nil {
			return nil, damaged("%s cannot be decoded by Config.Codec within MaxValueBytes (%d): %v", field, v.limit, err)
		}
		return plain, nil
	case v.codec != nil && !acceptsPlain(v.codec):
		return nil, damaged("%s is not encoded, and Config.Codec does not accept plain values", field)
	}
	rest, marked := bytes.CutPrefix(stored, []byte(plainMark))
	if !marked && bytes.HasPrefix(stored, []byte(markStem)) {
		return nil, damaged("%s has an unknown encoding", field)
	}
	return rest, nil
}

func acceptsPlain(c Codec) bool {
	p, ok := c.(PlainAccepter)
	return ok && p.AcceptsPlain()
}

// associatedData names a value for a codec: its record, its field and the status it goes with.
func associatedData(id identity, fingerprint, field string, code int) []byte {
	b := append(make([]byte, 0, 256), "redisidem/value/1"...)
	for _, part := range []string{id.Record, fingerprint, field, strconv.Itoa(code)} {
		b = protocol.AppendPart(b, part)
	}
	return b
}
