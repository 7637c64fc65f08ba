package codec_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

func TestReadEncryptionKeys(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	read := func(text string) ([]codec.EncryptionKey, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return codec.ReadEncryptionKeys(file)
	}
	encoded := func(letter string) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(letter), 32))
	}
	keys, err := read("# newest first\n\nk2 " + encoded("2") + "\n  k1\t" + encoded("1"))
	if err != nil || len(keys) != 2 || keys[0].ID != "k2" || keys[1].ID != "k1" || !bytes.Equal(keys[1].Secret, bytes.Repeat([]byte("1"), 32)) {
		t.Errorf("keys %v, %v", keys, err)
	}
	secret := encoded("s")
	for text, want := range map[string]string{
		"":                                 " has no keys",
		"# k1 " + secret + "\n":            " has no keys",
		secret + "\n":                      ":1 must be an ID",
		"k1 " + secret + "\nk2 c2hvcnQ=":   ":2 must be an ID",
		"k1 " + secret[1:]:                 ":1 must be an ID",
		"\n\nk1 " + secret + " x":          ":3 must be an ID",
		"k1 " + secret + "\n" + secret[1:]: ":2 must be an ID",
	} {
		_, err := read(text)
		if !errors.Is(err, redisidem.ErrInvalid) || !strings.Contains(err.Error(), file+want) || strings.Contains(err.Error(), secret[1:]) {
			t.Errorf("%q: the error is %v, want one with %q", text, err, want)
		}
	}
	if _, err := codec.ReadEncryptionKeys(file + "-2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}
