package main

import (
	"fmt"

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
		if keys, err = codec.ReadEncryptionKeys(f.EncryptionKeyFile); err != nil {
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
