package main

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// secrets are the rings of secrets of the store, each with the one in use first. Empty rings mean
// plain values and plain fingerprints.
type secrets struct {
	encryption  []codec.EncryptionKey
	fingerprint [][]byte
}

// follow returns an error unless next still has the secrets that s uses for new records: they could
// not be read, or retries would be refused.
func (s *secrets) follow(next *secrets) error {
	if len(s.encryption) > 0 {
		first := s.encryption[0]
		if !slices.ContainsFunc(next.encryption, func(k codec.EncryptionKey) bool { return k.ID == first.ID && bytes.Equal(k.Secret, first.Secret) }) {
			return configfile.Invalid("encryption_key_file", "must still have the key %s, which the records of this gateway are encrypted with", first.ID)
		}
	}
	if len(s.fingerprint) > 0 && !slices.ContainsFunc(next.fingerprint, func(secret []byte) bool { return bytes.Equal(secret, s.fingerprint[0]) }) {
		return configfile.Invalid("fingerprint_key", "must still have the secret that was the first one, which the records of this gateway have their fingerprints from")
	}
	return nil
}

// replaceableCodec is a codec that a reload replaces, for all that use it at once.
type replaceableCodec struct {
	current atomic.Pointer[redisidem.Codec]
}

// newReplaceableCodec returns a codec that is c until it is replaced, or nil for a nil c.
func newReplaceableCodec(c redisidem.Codec) *replaceableCodec {
	if c == nil {
		return nil
	}
	r := &replaceableCodec{}
	r.current.Store(&c)
	return r
}

// replace makes c the codec. It does nothing if r or c is nil: whether there is a codec changes
// only with a restart.
func (r *replaceableCodec) replace(c redisidem.Codec) {
	if r != nil && c != nil {
		r.current.Store(&c)
	}
}

// Encode implements [redisidem.Codec].
func (r *replaceableCodec) Encode(plain, associated []byte) ([]byte, error) {
	return (*r.current.Load()).Encode(plain, associated)
}

// Decode implements [redisidem.Codec].
func (r *replaceableCodec) Decode(stored, associated []byte, limit int) ([]byte, error) {
	return (*r.current.Load()).Decode(stored, associated, limit)
}

// AcceptsPlain implements [redisidem.PlainAccepter].
func (r *replaceableCodec) AcceptsPlain() bool {
	p, ok := (*r.current.Load()).(redisidem.PlainAccepter)
	return ok && p.AcceptsPlain()
}
