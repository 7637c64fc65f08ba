package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// storeFlags say where keys are, and how their values are read and printed.
type storeFlags struct {
	storeAccess
	Output string `enum:"table,json" default:"table" short:"o" help:"Print tables for people, or one JSON object on each line."`
}

// storeAccess says where keys are, and how their values are read.
type storeAccess struct {
	Redis         string        `env:"REDIS_URL" required:"" placeholder:"URL" help:"The Redis that stores the keys. Prefer the environment variable, since the URL may contain a password."`
	Namespace     string        `default:"redisidem" help:"Prefix of all names in Redis."`
	Timeout       time.Duration `default:"5s" help:"Timeout of each operation on Redis."`
	EncryptionKey []string      `sep:"none" placeholder:"ID=FILE" help:"Secret of the programs' codec.NewEncryption: its ID, and a file with the 32 bytes or with their base64. The first one encrypts; give it again for others."`
	Compressed    bool          `help:"The programs chain codec.NewCompression before the encryption, or have it alone."`
}

// inspect opens the store and runs a function on it. No server is checked, so that a user that may
// only read is enough for commands that only read.
func (f *storeFlags) inspect(ctx context.Context, retention time.Duration, do func(in *redisidem.Inspector) error) (err error) {
	service, err := f.open(retention)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close(context.WithoutCancel(ctx))) }()
	return do(redisidem.NewInspector(service))
}

// open opens the store. No server is asked.
func (f *storeAccess) open(retention time.Duration) (*redisidem.Service, error) {
	values, err := f.codec()
	if err != nil {
		return nil, err
	}
	return redisidem.OpenUnchecked(f.Redis, &redisidem.Config{
		Namespace: f.Namespace, Timeout: f.Timeout, Codec: values, MaxValueBytes: 512 << 20, Retention: retention,
	})
}

// codec returns the codec of the flags, which is nil without any. It accepts plain values, too.
func (f *storeAccess) codec() (redisidem.Codec, error) {
	var chain []redisidem.Codec
	if f.Compressed {
		compression, err := codec.NewCompression(1 << 10)
		if err != nil {
			return nil, err
		}
		chain = append(chain, compression)
	}
	if len(f.EncryptionKey) > 0 {
		keys := make([]codec.EncryptionKey, 0, len(f.EncryptionKey))
		for _, word := range f.EncryptionKey {
			id, file, ok := strings.Cut(word, "=")
			if !ok {
				return nil, fmt.Errorf("--encryption-key must be ID=FILE: %q", word)
			}
			secret, err := readSecret(file)
			if err != nil {
				return nil, err
			}
			keys = append(keys, codec.EncryptionKey{ID: id, Secret: secret})
		}
		encryption, err := codec.NewEncryption(keys...)
		if err != nil {
			return nil, err
		}
		chain = append(chain, encryption)
	}
	if len(chain) == 0 {
		return nil, nil //nolint:nilnil // no codec
	}
	all, err := codec.Chain(chain...)
	if err != nil {
		return nil, err
	}
	return codec.Optional(all), nil
}

// readSecret reads a secret of 32 bytes. Its errors do not contain what it has read.
func readSecret(file string) ([]byte, error) {
	const size = 32
	text, err := os.ReadFile(file)
	if err != nil || len(text) == size {
		return text, err
	}
	secret, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(secret) != size {
		return nil, fmt.Errorf("%s must contain %d bytes, or their base64", file, size)
	}
	return secret, nil
}

// keyArgument names one key.
type keyArgument struct {
	Key   string `arg:"" help:"The key's ID, as in logs; with --scope the key itself."`
	Scope string `help:"Scope of the key, if it is not given by its ID."`
}

// get reads the key.
func (a *keyArgument) get(ctx context.Context, in *redisidem.Inspector) (*redisidem.KeyInfo, error) {
	if a.Scope != "" {
		return in.Get(ctx, a.Scope, a.Key)
	}
	return in.Find(ctx, a.Key)
}
