package httpidem

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// UUIDKeys is a KeyConfig.Check that accepts only UUIDs in the usual form of 36 characters.
// Versions below 3 are refused, since their bits can be guessed. A caller that guesses a key of its
// scope gets the stored response.
func UUIDKeys(key string) error {
	if id, err := uuid.Parse(key); err != nil || len(key) != 36 || id.Version() < 3 {
		return &idemheader.SyntaxError{Reason: "must be a UUID"}
	}
	return nil
}

// MinKeyBytes returns a KeyConfig.Check that accepts only keys of at least n bytes.
func MinKeyBytes(n int) func(key string) error {
	return func(key string) error {
		if len(key) < n {
			return &idemheader.SyntaxError{Reason: fmt.Sprintf("must be at least %d bytes long", n)}
		}
		return nil
	}
}

// KeysWithin returns a KeyConfig.Check for keys that contain their creation time: version 7 UUIDs
// and ULIDs. A key that is more than past old, or more than future ahead of the host's clock, is a
// [*WindowError]. Any other key is a [*idemheader.SyntaxError]. If past plus future is
// shorter than the retention, a key is always refused after its record has expired.
func KeysWithin(past, future time.Duration) func(key string) error {
	return func(key string) error {
		createdAt, ok := timeOf(key)
		if !ok {
			return &idemheader.SyntaxError{Reason: "must be a version 7 UUID or a ULID"}
		}
		if age := time.Since(createdAt); age > past || age < -future { // a far future saturates: -age would overflow
			return &WindowError{Past: past, Future: future}
		}
		return nil
	}
}

// WindowError reports a key that was created too long ago, or in the future.
type WindowError struct {
	// Past is the maximum age of a key. Future is how far it may be ahead of the server's clock.
	Past, Future time.Duration
}

func (e *WindowError) Error() string {
	return fmt.Sprintf("httpidem: the key must have been created between %v ago and %v from now", e.Past, e.Future)
}

// timeOf returns the creation time in a version 7 UUID or a ULID.
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
