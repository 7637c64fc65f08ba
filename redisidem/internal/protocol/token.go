package protocol

import (
	"crypto/rand"
	"encoding/base64"
)

// NewToken returns 128 random bits as text. It cannot fail: on a system without randomness,
// crypto/rand ends the program.
func NewToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	var text [22]byte
	base64.RawURLEncoding.Encode(text[:], b[:])
	return string(text[:])
}
