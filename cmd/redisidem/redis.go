package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// redisFlags configure the store of the keys.
type redisFlags struct {
	Redis     string `yaml:"redis" env:"REDIS_URL" placeholder:"URL" help:"The Redis that stores the keys: redis:// or rediss:// (TLS). Append +cluster or +sentinel to the scheme for a cluster or for Sentinel. Add ?tls_cert=FILE&tls_key=FILE&tls_ca=FILE for client certificates. Prefer the environment variable, since the URL may contain a password. For a trial without a Redis: memory: keeps keys in this process, and loses them with it."`
	Namespace string `yaml:"namespace" default:"redisidem" help:"Prefix of all names in Redis."`
}

// inMemory is the URL of a Redis inside this process.
const inMemory = "memory:"

// open opens the service without a call to Redis.
func (f *redisFlags) open(cfg *redisidem.Config, log *slog.Logger) (*redisidem.Service, func(), error) {
	url, stop := f.Redis, func() {}
	switch url {
	case "":
		return nil, nil, errors.New("--redis (or REDIS_URL) must name the Redis that stores the keys, or be " + inMemory + " for a trial without one")
	case inMemory:
		server, err := miniredis.Run()
		if err != nil {
			return nil, nil, err
		}
		server.ClockTTL(true) // without it no key expires
		log.Warn("keys are kept in this process and are lost with it, and other replicas do not see them: for a trial only", "redis", inMemory)
		url, stop = "redis://"+server.Addr(), server.Close
	}
	cfg.Namespace = f.Namespace
	service, err := redisidem.OpenUnchecked(url, cfg)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return service, stop, nil
}

// checkRedis checks whether Redis is fit for use, and logs warnings. passes reports whether the
// error may pass by itself, as that of a server that restarts, is full or is being replaced.
func checkRedis(ctx context.Context, service *redisidem.Service, log *slog.Logger) (passes bool, err error) {
	report, err := service.Check(ctx)
	if err != nil {
		return isAway(err), err
	}
	passes = true
	for _, f := range report.Findings {
		switch f.Verdict { //nolint:exhaustive // the others are in order
		case redisidem.VerdictWarning:
			log.Warn("redis can keep the promise but for one case", "node", f.Node, "subject", f.Subject, "detail", f.Detail)
		case redisidem.VerdictFailure:
			passes = passes && slices.Contains([]string{"persistence", "replication", "slots", "scripts"}, f.Subject)
		}
	}
	return passes, report.Err()
}

// isAway reports whether Redis gave no answer, or said that it will be there later. Other refusals,
// such as that of a password, do not pass by themselves.
func isAway(err error) bool {
	var said redis.Error
	if !errors.Is(err, redisidem.ErrUnavailable) {
		return false
	}
	return !errors.As(err, &said) || redis.IsLoadingError(err) || redis.IsMasterDownError(err) || redis.IsClusterDownError(err) ||
		redis.IsTryAgainError(err) || redis.IsMaxClientsError(err)
}

// awaitRedis checks Redis again until it is fit for use or ctx ends. It returns an error that does
// not pass by itself.
func awaitRedis(ctx context.Context, service *redisidem.Service, log *slog.Logger) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		passes, err := checkRedis(ctx, service, log)
		switch {
		case err == nil:
			log.Info("redis can be used")
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passes:
			return err
		}
		log.Warn("redis cannot be used yet", "error", err)
	}
}
