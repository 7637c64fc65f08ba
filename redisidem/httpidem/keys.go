package httpidem

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// UUIDKeys is a KeyConfig.Check for an API whose keys are UUIDs in their usual form of 36
// characters, of any version but with random or hashed bits: a key that can be guessed lets others
// in the same scope see its answer.
func UUIDKeys(key string) error {
	if id, err := uuid.Parse(key); err != nil || len(key) != 36 || id.Version() < 3 {
		return &idemheader.SyntaxError{Reason: "must be a UUID"}
	}
	return nil
}

// MinKeyBytes returns a KeyConfig.Check for an API whose keys have at least so many bytes.
func MinKeyBytes(n int) func(key string) error {
	return func(key string) error {
		if len(key) < n {
			return &idemheader.SyntaxError{Reason: fmt.Sprintf("must be at least %d bytes long", n)}
		}
		return nil
	}
}

// KeysWithin returns a KeyConfig.Check for an API whose keys tell when they were made: version 7
// UUIDs or ULIDs. A key that is older than past or more than future ahead of this host's clock is a
// [*WindowError]; anything else is a [*idemheader.SyntaxError]. With past below the retention, a
// key can never be used again after its record was forgotten.
func KeysWithin(past, future time.Duration) func(key string) error {
	return func(key string) error {
		made, ok := timeOf(key)
		if !ok {
			return &idemheader.SyntaxError{Reason: "must be a version 7 UUID or a ULID"}
		}
		if age := time.Since(made); age > past || -age > future {
			return &WindowError{Past: past, Future: future}
		}
		return nil
	}
}

// WindowError reports that a key was made too long ago, or in the future.
type WindowError struct {
	// Past and Future are how old a key may be, and how far ahead of the server's clock.
	Past, Future time.Duration
}

func (e *WindowError) Error() string {
	return fmt.Sprintf("httpidem: the key must have been made between %v ago and %v from now", e.Past, e.Future)
}

// timeOf returns the time that is in a version 7 UUID or a ULID.
func timeOf(key string) (time.Time, bool) {
	var ms int64
	switch len(key) {
	case 36:
		id, err := uuid.Parse(key)
		if err != nil || id.Version() != 7 {
			return time.Time{}, false
		}
		for _, b := range id[:6] {
			ms = ms<<8 | int64(b)
		}
	case 26:
		for i := range len(key) {
			digit := crockford(key[i])
			if digit < 0 || i == 0 && digit > 7 {
				return time.Time{}, false
			}
			if i < 10 {
				ms = ms<<5 | digit
			}
		}
	default:
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// crockford returns the value of a digit of a ULID, or -1.
func crockford(c byte) int64 {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := range len(digits) {
		if digits[i] == c {
			return int64(i)
		}
	}
	return -1
}
