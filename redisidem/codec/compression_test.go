package codec_test

import (
	"bytes"
	"testing"

	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestCompressionStoresShortValuesPlain(t *testing.T) {
	t.Parallel()
	_, err := codec.NewCompression(0)
	mustRefuse(t, err, "minBytes", "1")
	c, err := codec.NewCompression(64)
	if err != nil {
		t.Fatal(err)
	}
	for size, most := range map[int]int{0: 1, 63: 64, 64: 63, 10_000: 100} {
		value := bytes.Repeat([]byte("x"), size)
		stored, err := c.Encode(value, nil)
		if err != nil || len(stored) > most {
			t.Errorf("%d bytes are stored as %d, %v", size, len(stored), err)
		}
		if plain, err := c.Decode(stored, nil, size); err != nil || !bytes.Equal(plain, value) {
			t.Errorf("%d bytes come back as %d, %v", size, len(plain), err)
		}
		if _, err := c.Decode(stored, nil, size-1); err == nil {
			t.Errorf("%d bytes are decoded beyond the limit", size)
		}
	}
}

// FuzzDecode checks that the decoders accept any bytes, and return only values within the limit.
func FuzzDecode(f *testing.F) {
	compression, err := codec.NewCompression(1)
	if err != nil {
		f.Fatal(err)
	}
	encryption := mustEncrypt(f, secret("a"))
	for _, c := range []interface {
		Encode(plain, associated []byte) ([]byte, error)
	}{compression, encryption} {
		value, err := c.Encode(bytes.Repeat([]byte("abc"), 50), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Add([]byte{'d', 0xff, 0xff, 0xff, 0xff, 0x0f, 1})
	f.Add(bytes.Repeat([]byte{0xff}, 300)) // a length that overflows a byte
	f.Fuzz(func(t *testing.T, stored []byte) {
		const limit = 1 << 20
		if plain, err := compression.Decode(stored, nil, limit); err == nil {
			again, err := compression.Encode(plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			back, err := compression.Decode(again, nil, limit)
			if err != nil || !bytes.Equal(back, plain) {
				t.Errorf("%q becomes %q, %v", plain, back, err)
			}
		}
		if plain, err := encryption.Decode(stored, nil, limit); err == nil && len(plain) > limit {
			t.Errorf("%d bytes are decoded", len(plain))
		}
		encrypted, err := encryption.Encode(stored, []byte("here"))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := encryption.Decode(encrypted, []byte("here"), limit); err != nil || !bytes.Equal(back, stored) {
			t.Errorf("%q becomes %q, %v", stored, back, err)
		}
		if _, err := encryption.Decode(encrypted, []byte("there"), limit); err == nil {
			t.Error("it decodes with other associated data")
		}
	})
}
