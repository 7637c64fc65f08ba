package main

import (
	"context"
	"errors"
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
	codecFlags

	Redis     given         `env:"REDIS_URL" required:"" placeholder:"URL" help:"The Redis that stores the keys. Prefer the environment variable, since the URL may contain a password."`
	Namespace string        `default:"redisidem" help:"Prefix of all names in Redis."`
	Timeout   time.Duration `default:"5s" help:"Timeout of each operation on Redis."`

	writes *answerFlags // nil for a command that stores no values
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
	if f.Redis == inMemory {
		return nil, errors.New(inMemory + " is inside the process of a gateway, and no other program sees its keys")
	}
	values, _, err := f.codec()
	if err != nil {
		return nil, flagError(err)
	}
	cfg := redisidem.Config{Namespace: f.Namespace, Timeout: f.Timeout, Codec: codec.Optional(values), MaxValueBytes: maxValueBytes, Retention: retention}
	if f.writes != nil {
		cfg.MaxValueBytes = f.writes.MaxValueBytes
		if !f.writes.AcceptPlain {
			cfg.Codec = values
		}
	}
	return redisidem.OpenUnchecked(string(f.Redis), &cfg)
}

// keyArgument names one key.
type keyArgument struct {
	Key   string `arg:"" help:"The key's ID, as in logs; with --scope the key itself."`
	Scope given  `help:"Scope of the key, if it is not given by its ID."`
}

// get reads the key.
func (a *keyArgument) get(ctx context.Context, in *redisidem.Inspector) (*redisidem.KeyInfo, error) {
	if a.Scope != "" {
		return in.Get(ctx, string(a.Scope), a.Key)
	}
	return in.Find(ctx, a.Key)
}
