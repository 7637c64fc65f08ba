package contender

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// patience is the timeout of every contender. It is long because a benchmark fully loads the
// machine.
const patience = 10 * time.Second

// retention is how long each contender keeps its records.
const retention = 24 * time.Hour

var (
	redisidemPlain = Kind{
		Name: "redisidem", Title: "redisidem",
		About: "This library, each caller on a connection of its own: obtain and claim in one round trip, commit in another.",
		Own:   true, Replays: true,
		Open: library(func(*redisidem.Config) {}),
	}
	redisidemAuto = Kind{
		Name: "redisidem-auto", Title: "redisidem, auto-pipelined",
		About: "This library with Config.AutoPipeline: the callers' commands share pipelines on one connection.",
		Own:   true, Replays: true,
		Open: library(func(c *redisidem.Config) { c.AutoPipeline = true }),
	}
	redisidemWait = Kind{
		Name: "redisidem-wait", Title: "redisidem, waiting",
		About: "This library with Config.Wait: callers of a key in flight wait until its worker has finished.",
		Own:   true, Replays: true, Waits: true,
		Open: library(func(c *redisidem.Config) { c.Wait = patience }),
	}
	redisidemCache = Kind{
		Name: "redisidem-cache", Title: "redisidem, local copies",
		About: "This library with Config.CacheBytes: replays of finished keys come from the process's own memory.",
		Own:   true, Replays: true,
		Open: library(func(c *redisidem.Config) { c.CacheBytes, c.CacheLife = 256<<20, time.Hour }),
	}
)

type libraryContender struct {
	client  redis.UniversalClient
	service *redisidem.Service
	scope   *redisidem.Scope
	flow    *redisidem.Flow
}

func library(change func(*redisidem.Config)) func(context.Context, Dial, string) (Contender, error) {
	return func(ctx context.Context, dial Dial, prefix string) (Contender, error) {
		cfg := &redisidem.Config{Namespace: prefix, Timeout: patience, Retention: retention}
		change(cfg)
		var client redis.UniversalClient
		var err error
		if cfg.AutoPipeline {
			client, err = dial.SharedClient()
		} else {
			client, err = dial.Client(ctx)
		}
		if err != nil {
			return nil, err
		}
		service, err := redisidem.New(client, cfg)
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		flow, err := newFlow()
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		return &libraryContender{client: client, service: service, scope: service.Scope("bench"), flow: flow}, nil
	}
}

func (g *libraryContender) Do(ctx context.Context, r Request, work Work) (response []byte, replayed bool, err error) {
	return answer(g.scope.Do(ctx, r.Key, redisidem.Request{Method: r.Method, Path: r.Path, Params: r.Params},
		func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			body, err := work(ctx)
			if err != nil {
				return redisidem.Outcome{}, err
			}
			return redisidem.Finish(redisidem.Response{Code: 200, Body: body}), nil
		}))
}

// answer converts the library's result to that of a contender.
func answer(key *redisidem.Key, err error) (response []byte, replayed bool, _ error) {
	switch {
	case errors.Is(err, redisidem.ErrLocked):
		return nil, false, ErrInFlight
	case err != nil:
		return nil, false, err
	case key.Response.IsZero():
		return nil, false, errors.New("there is no response")
	}
	return key.Response.Body, key.Replayed(), nil
}

func (g *libraryContender) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(g.service.Close(ctx), g.client.Close())
}

// Service returns the service behind a contender of this library, or nil. Scenarios use it if Do is
// not enough.
func Service(g Contender) *redisidem.Service {
	if l, ok := g.(*libraryContender); ok {
		return l.service
	}
	return nil
}
