package codec

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/redisidem/redisidem/redisidem"
)

// EncryptionKey is a named secret for [NewEncryption].
type EncryptionKey struct {
	// ID names the key in the values that it has encrypted, so that the key can be found again. It
	// is not a secret. 1 to 64 bytes.
	ID string
	// Secret is 32 random bytes.
	Secret []byte
}

// NewEncryption returns a codec that encrypts with AES-256-GCM. A value is bound to its record,
// field and status: if it is moved to another of them, it does not decode.
//
// The first key encrypts; every key decrypts. To rotate keys, first add the new key at the end on
// every service, then move it to the front. Remove the old key when the records that it encrypted
// have expired: after Config.Retention, and after Config.DeadLetterRetention for dead letters.
//
// Each record is encrypted with a key of its own, which HKDF derives from the secret, so that the
// number of random nonces per key stays small. Names of keys and scopes, method, path, recovery
// point and journal are not encrypted, and the fingerprint is a plain digest.
//
// Each value is authenticated by itself, not the record as a whole: an attacker who can write to
// Redis can remove params, state and headers, and can put back an earlier value of the same key.
// docs/security.md has the whole list.
//
// It returns an error that matches [redisidem.ErrInvalid] if the list is empty, an ID is used
// twice, or a field breaks its bound.
func NewEncryption(keys ...EncryptionKey) (redisidem.Codec, error) {
	if len(keys) == 0 {
		return nil, invalid("keys", "must not be empty")
	}
	e := &encryption{primary: keys[0].ID, secrets: make(map[string][]byte, len(keys))}
	for i, k := range keys {
		field := fmt.Sprintf("keys[%d]", i)
		switch {
		case len(k.ID) < 1 || len(k.ID) > 64:
			return nil, invalid(field+".ID", "must be 1 to 64 bytes long: %d", len(k.ID))
		case len(k.Secret) != 32:
			return nil, invalid(field+".Secret", "must be 32 bytes long: %d", len(k.Secret))
		case e.secrets[k.ID] != nil:
			return nil, invalid(field+".ID", "is used by an earlier key: %q", k.ID)
		}
		e.secrets[k.ID] = bytes.Clone(k.Secret)
	}
	return e, nil
}

// encryption is a key ring. It encodes a value as the length of the key's ID, the ID, the nonce,
// the ciphertext and the tag.
type encryption struct {
	primary string
	secrets map[string][]byte
}

// Encode implements [redisidem.Codec].
func (e *encryption) Encode(plain, associated []byte) ([]byte, error) {
	aead, err := e.aead(e.primary, associated)
	if err != nil {
		return nil, err
	}
	header := append([]byte{byte(len(e.primary))}, e.primary...) //nolint:gosec // an ID has at most 64 bytes
	// The AEAD adds a random nonce.
	return aead.Seal(header, nil, plain, append(bytes.Clone(header), associated...)), nil //nolint:gosec // see above
}

// Decode implements [redisidem.Codec].
func (e *encryption) Decode(stored, associated []byte, limit int) ([]byte, error) {
	if len(stored) == 0 || len(stored) < 1+int(stored[0]) {
		return nil, errors.New("too short")
	}
	end := 1 + int(stored[0])
	header, sealed := stored[:end], stored[end:]
	aead, err := e.aead(string(header[1:]), associated)
	if err != nil {
		return nil, err
	}
	if len(sealed)-aead.Overhead() > limit {
		return nil, errTooLong(limit)
	}
	return aead.Open(nil, nil, sealed, append(bytes.Clone(header), associated...))
}

// aead returns the cipher for one value, whose key is derived from the secret and the value's
// associated data.
func (e *encryption) aead(key string, associated []byte) (cipher.AEAD, error) {
	secret := e.secrets[key]
	if secret == nil {
		return nil, fmt.Errorf("unknown encryption key %q", key)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "redisidem/encryption/1"+string(associated), len(secret))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
