package main

import (
	"context"
	"log/slog"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// redisFlags configure the store of the keys.
type redisFlags struct {
	Redis     string `env:"REDIS_URL" placeholder:"URL" help:"The Redis that stores the keys: redis:// or rediss:// (TLS). Append +cluster or +sentinel to the scheme for a cluster or for Sentinel. Add ?tls_cert=FILE&tls_key=FILE&tls_ca=FILE for client certificates. Prefer the environment variable, since the URL may contain a password."`
	Namespace string `default:"redisidem" help:"Prefix of all names in Redis."`
}

// open opens the service. Without a URL it starts a Redis inside this process and logs a warning.
// The keys are then lost with the process, and other replicas do not see them.
func (f *redisFlags) open(ctx context.Context, cfg *redisidem.Config, log *slog.Logger) (*redisidem.Service, func(), error) {
	url, stop := f.Redis, func() {}
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return nil, nil, err
		}
		server.ClockTTL(true) // without it no key expires
		log.Warn("NO REDIS GIVEN: keys are kept inside this process, and are lost with it. For trying out only: set REDIS_URL")
		url, stop = "redis://"+server.Addr(), server.Close
	}
	cfg.Namespace = f.Namespace
	service, err := redisidem.Open(ctx, url, cfg)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return service, stop, nil
}
