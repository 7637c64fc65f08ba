package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/configfile"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// codecFlags say how values are encoded in Redis.
type codecFlags struct {
	EncryptionKeyFile string `yaml:"encryption_key_file" placeholder:"FILE" help:"Values are encrypted with AES-256-GCM. The file has one key on each line: an ID, a space, and 32 bytes in base64. The first key encrypts, and all of them decrypt."`
	Compressed        bool   `yaml:"compressed" help:"Compress values of 1 KiB and more, before they are encrypted."`
}

// compressFrom is the size in bytes from which values are compressed.
const compressFrom = 1 << 10

// codec returns the codec of the flags, which is nil without any, and its keys. Its errors are
// [configfile.FieldError]s.
func (f *codecFlags) codec() (values redisidem.Codec, keys []codec.EncryptionKey, err error) {
	var chain []redisidem.Codec
	if f.Compressed {
		compression, err := codec.NewCompression(compressFrom)
		if err != nil {
			return nil, nil, configfile.Within("compressed", err)
		}
		chain = append(chain, compression)
	}
	if f.EncryptionKeyFile != "" {
		if keys, err = readKeyRing(f.EncryptionKeyFile); err != nil {
			return nil, nil, configfile.Within("encryption_key_file", err)
		}
		encryption, err := codec.NewEncryption(keys...)
		if err != nil {
			return nil, nil, configfile.Within("encryption_key_file", fmt.Errorf("%s: %w", f.EncryptionKeyFile, err))
		}
		chain = append(chain, encryption)
	}
	if len(chain) == 0 {
		return nil, nil, nil
	}
	values, err = codec.Chain(chain...)
	return values, keys, err
}

// readKeyRing reads the keys of a file. Empty lines and lines that begin with # are left out. Its
// errors do not contain what it has read, which may be a secret.
func readKeyRing(file string) ([]codec.EncryptionKey, error) {
	const size = 32
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var keys []codec.EncryptionKey
	number := 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		number++
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var secret []byte
		if len(words) == 2 {
			secret, err = base64.StdEncoding.DecodeString(words[1])
		}
		if len(words) != 2 || err != nil || len(secret) != size {
			return nil, fmt.Errorf("%s:%d: must be an ID, a space, and %d bytes in base64", file, number, size)
		}
		keys = append(keys, codec.EncryptionKey{ID: words[0], Secret: secret})
	}
	if len(keys) == 0 {
		return nil, errors.New(file + " has no keys")
	}
	return keys, nil
}
