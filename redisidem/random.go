package redisidem

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
)

// newToken returns 128 random bits as text. crypto/rand never fails: a system without randomness ends the program.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	var text [22]byte
	base64.RawURLEncoding.Encode(text[:], b[:])
	return string(text[:])
}

// below returns a random number of 0 to n-1; n must be positive. Pauses need no good randomness, but that of crypto/rand can be
// set by a test (testing/cryptotest), so that the same seed makes the same history. It is asked for once in a pause, so what it
// costs does not matter.
func below[T ~int | ~int64](n T) T {
	var b [8]byte
	_, _ = rand.Read(b[:])
	high, _ := bits.Mul64(binary.LittleEndian.Uint64(b[:]), uint64(n))
	return T(high)
}
