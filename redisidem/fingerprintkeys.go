package redisidem

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
)

// FingerprintKeys is a ring of secrets for Config.FingerprintKeys.
type FingerprintKeys struct{ ring [][]byte }

// leastFingerprintKey is the length in bytes of a secret that cannot be found by trying.
const leastFingerprintKey = 16

// NewFingerprintKeys makes a ring of secrets, each of at least 16 random bytes. The first one makes
// the fingerprints (HMAC-SHA-256) of new records. Records that another one has made are still
// known, at the price of a round trip for each: so a new secret goes to the end first, until all
// processes know it, then to the front. The old one leaves when its records have expired: after
// Config.Retention, and after Config.DeadLetterRetention for dead letters. An empty secret stands
// for the plain digest, for the time after the first one is introduced.
//
// It returns an [*InvalidError] for a secret that is too short, and for an empty one that is alone.
func NewFingerprintKeys(primary []byte, older ...[]byte) (*FingerprintKeys, error) {
	k := &FingerprintKeys{}
	for i, secret := range append([][]byte{primary}, older...) {
		if len(secret) < leastFingerprintKey && (len(secret) > 0 || len(older) == 0) {
			return nil, invalid("NewFingerprintKeys", "has a secret of %d bytes, less than %d: number %d", len(secret), leastFingerprintKey, i)
		}
		k.ring = append(k.ring, bytes.Clone(secret))
	}
	return k, nil
}

// primary is the secret for new records; nil for plain digests.
func (k *FingerprintKeys) primary() []byte {
	if k == nil {
		return nil
	}
	return k.ring[0]
}

// older are the others.
func (k *FingerprintKeys) older() [][]byte {
	if k == nil || len(k.ring) == 1 {
		return nil
	}
	return k.ring[1:]
}

// keyedSum returns the HMAC of a request's digest by a secret.
func keyedSum(digest [sha256.Size]byte, secret []byte) (keyed [sha256.Size]byte) {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write(digest[:]) // a hash returns no error
	mac.Sum(keyed[:0])
	return keyed
}

// tryOlderFingerprints calls try with a request's fingerprint by each older secret, in their order,
// as long as the record has another fingerprint. err is the result with the fingerprint by the
// first secret. It returns the last result.
func (s *Service) tryOlderFingerprints(
	request *encodedRequest, id identity, err error, try func(i int, older *encodedRequest) error,
) error {
	for i, secret := range s.cfg.FingerprintKeys.older() {
		if !errors.Is(err, ErrFingerprintMismatch) {
			break
		}
		older, sealErr := request.keyedWith(secret, s.valueCodec, id)
		if sealErr != nil {
			return sealErr
		}
		err = try(i, older)
	}
	return err
}
