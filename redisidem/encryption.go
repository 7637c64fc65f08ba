package redisidem

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// EncryptionKey is a secret with a name.
type EncryptionKey struct {
	// ID names the key in what it has encrypted, so that it can be found again. Not a secret. 1 to 64 bytes.
	ID string
	// Secret is 32 random bytes.
	Secret []byte
}

// NewEncryption makes a codec that encrypts with AES-256-GCM, bound to the record and the field: a value that is moved to
// another record, another field or another status no longer decodes. The first key encrypts, all of them decrypt. To change
// keys, first make the new one known everywhere as a further key, then put it first, and drop the old one a retention later.
//
// Each record is encrypted with a key of its own, derived from the secret by HKDF, so that random nonces do not run out.
// Names of keys and scopes, method, path, recovery point and journal are not encrypted, and the fingerprint is a plain digest.
//
// Each value is authenticated by itself, not the record as a whole: who can write to Redis can
// remove params, state and headers, and put back a value that the same key had before.
// docs/security.md has the whole list.
func NewEncryption(keys ...EncryptionKey) (Codec, error) {
	if len(keys) == 0 {
		return nil, invalid("keys", "must not be empty")
	}
	e := &encryption{primary: keys[0].ID, secrets: make(map[string][]byte, len(keys))}
	for i, k := range keys {
		field := fmt.Sprintf("keys[%d]", i)
		switch {
		case len(k.ID) < 1 || len(k.ID) > 64:
			return nil, invalid(field+".ID", "must be 1 to 64 bytes long, and is %d", len(k.ID))
		case len(k.Secret) != 32:
			return nil, invalid(field+".Secret", "must be 32 bytes long, and is %d", len(k.Secret))
		case e.secrets[k.ID] != nil:
			return nil, invalid(field+".ID", "is that of an earlier key, too: %q", k.ID)
		}
		e.secrets[k.ID] = bytes.Clone(k.Secret)
	}
	return e, nil
}

// encryption is a key ring. What it encodes is: the length of the key's ID, the ID, nonce, ciphertext and tag.
type encryption struct {
	primary string
	secrets map[string][]byte
}

// Encode implements [Codec].
func (e *encryption) Encode(plain, place []byte) ([]byte, error) {
	aead, err := e.aead(e.primary, place)
	if err != nil {
		return nil, err
	}
	header := append([]byte{byte(len(e.primary))}, e.primary...) //nolint:gosec // names of keys are short
	// The AEAD makes a random nonce of its own.
	return aead.Seal(header, nil, plain, append(bytes.Clone(header), place...)), nil //nolint:gosec // see above
}

// Decode implements [Codec].
func (e *encryption) Decode(stored, place []byte, limit int) ([]byte, error) {
	if len(stored) == 0 || len(stored) < 1+int(stored[0]) {
		return nil, errors.New("too short")
	}
	end := 1 + int(stored[0])
	header, sealed := stored[:end], stored[end:]
	aead, err := e.aead(string(header[1:]), place)
	if err != nil {
		return nil, err
	}
	if len(sealed)-aead.Overhead() > limit {
		return nil, errTooLong(limit)
	}
	return aead.Open(nil, nil, sealed, append(bytes.Clone(header), place...))
}

// aead makes the cipher for one value. The key is derived from the secret and the value's place.
func (e *encryption) aead(key string, place []byte) (cipher.AEAD, error) {
	secret := e.secrets[key]
	if secret == nil {
		return nil, fmt.Errorf("unknown encryption key %q", key)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "redisidem/encryption/1"+string(place), len(secret))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
