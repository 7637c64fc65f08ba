package codec_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

func secret(id string) codec.EncryptionKey {
	return codec.EncryptionKey{ID: id, Secret: bytes.Repeat([]byte(id[:1]), 32)}
}

func mustEncrypt(t testing.TB, keys ...codec.EncryptionKey) redisidem.Codec {
	t.Helper()
	c, err := codec.NewEncryption(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mustRefuse checks that an error names the field and holds a text.
func mustRefuse(t testing.TB, err error, field, text string) {
	t.Helper()
	invalid := (*redisidem.InvalidError)(nil)
	if !errors.As(err, &invalid) || invalid.Field != field || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, not about %s with %q", err, field, text)
	}
}

func TestS9_EncryptionIsDifferentEachTime(t *testing.T) {
	t.Parallel()
	c := mustEncrypt(t, secret("k"))
	seen := make(map[string]bool)
	const messages = 100_000
	for range messages {
		stored, err := c.Encode(nil, []byte("associated"))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(stored)] = true
	}
	if len(seen) != messages {
		t.Errorf("%d of %d messages are different", len(seen), messages)
	}
}

func TestEncryptionKeysAreChecked(t *testing.T) {
	t.Parallel()
	good := secret("a")
	for field, keys := range map[string][]codec.EncryptionKey{
		"keys":           nil,
		"keys[0].ID":     {{Secret: good.Secret}},
		"keys[1].ID":     {good, good},
		"keys[0].Secret": {{ID: "a", Secret: []byte("short")}},
	} {
		_, err := codec.NewEncryption(keys...)
		mustRefuse(t, err, field, "")
		if strings.Contains(err.Error(), "short") {
			t.Errorf("the error has the secret: %v", err)
		}
	}
	_, err := codec.NewEncryption(codec.EncryptionKey{ID: strings.Repeat("x", 65), Secret: good.Secret})
	mustRefuse(t, err, "keys[0].ID", "64")
}

func TestValueKeepsToItsAssociatedData(t *testing.T) {
	t.Parallel()
	c := mustEncrypt(t, secret("a"))
	stored, err := c.Encode([]byte("value"), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := c.Decode(stored, []byte("here"), 5); err != nil || string(plain) != "value" {
		t.Errorf("it decodes to %q, %v", plain, err)
	}
	if plain, err := c.Decode(stored, []byte("there"), 5); err == nil {
		t.Errorf("with other associated data it decodes to %q", plain)
	}
	if plain, err := c.Decode(stored, []byte("here"), 4); err == nil {
		t.Errorf("beyond the limit it decodes to %q", plain)
	}
}

func BenchmarkEncryption(b *testing.B) {
	c := mustEncrypt(b, secret("a"))
	body := make([]byte, 256)
	_, _ = rand.Read(body)
	b.ReportAllocs()
	for b.Loop() {
		stored, err := c.Encode(body, []byte("associated"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Decode(stored, []byte("associated"), 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
