package codec_test

import (
	"bytes"
	"testing"

	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestChainDecodesInReverseOrder(t *testing.T) {
	t.Parallel()
	_, err := codec.Chain()
	mustRefuse(t, err, "codecs", "empty")
	encryption := mustEncrypt(t, secret("a"))
	_, err = codec.Chain(encryption, nil)
	mustRefuse(t, err, "codecs[1]", "nil")
	compression, err := codec.NewCompression(1)
	if err != nil {
		t.Fatal(err)
	}
	both, err := codec.Chain(compression, encryption)
	if err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("x"), 10_000)
	stored, err := both.Encode(value, []byte("associated"))
	if err != nil || len(stored) > 200 {
		t.Errorf("%d bytes are stored as %d, %v", len(value), len(stored), err)
	}
	plain, err := both.Decode(stored, []byte("associated"), len(value))
	if err != nil || !bytes.Equal(plain, value) {
		t.Errorf("it comes back as %d bytes, %v", len(plain), err)
	}
	if _, err := both.Decode(stored, []byte("associated"), len(value)-1); err == nil {
		t.Error("it is decoded beyond the limit")
	}
}
