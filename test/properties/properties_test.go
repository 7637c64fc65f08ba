// Package properties compares the library with a model. Several processes do random actions on a
// few keys, while time passes, networks are cut and replies are lost. After each action the key
// matches the model, and so do its lock, its expiry and the counters of its effects.
package properties

import (
	"context"
	"flag"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem/idemtest"
	"github.com/redisidem/redisidem/test/internal/rung"
)

func TestKeysAreWhatTheModelSays(t *testing.T) {
	prepare(t, rung.Size(t, 500, 10_000, 100_000))
	cases, actions := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			server := idemtest.NewServer(t)
			actions += play(t, world{options: server.Options, travels: true})
			cases++
		})
	})
	rung.Figure(t, "R16", "properties: %d cases of %d actions against the model, in fake time", cases, actions)
}

func TestKeysWithCompletersAreWhatTheModelSays(t *testing.T) {
	prepare(t, rung.Size(t, 20, 300, 3000))
	cases, actions := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			server := idemtest.NewServer(t)
			actions += play(t, world{options: server.Options, travels: true, completes: true})
			cases++
		})
	})
	rung.Figure(t, "R16", "properties: %d cases of %d actions against the model, with completers", cases, actions)
}

// TestKeysOnARealServerAreWhatTheModelSays leaves out the actions that take long.
func TestKeysOnARealServerAreWhatTheModelSays(t *testing.T) {
	addr := rediscase.Server(t).Addr()
	prepare(t, rung.Size(t, 60, 1000, 10_000))
	cases, actions := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		actions += play(t, world{options: func() *redis.Options {
			return &redis.Options{Addr: addr, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1}
		}})
		cases++
	})
	rung.Figure(t, "R16", "properties: %d cases of %d actions against the model, on a real server", cases, actions)
}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet stops go-redis from logging networks that are cut on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// prepare sets rapid's number of cases and its seed.
func prepare(t *testing.T, checks int) {
	t.Helper()
	for name, value := range map[string]string{
		"rapid.checks": strconv.Itoa(checks), "rapid.seed": strconv.FormatUint(rung.Seed(t), 10), "rapid.nofailfile": "true",
	} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
}

// play plays one case. It returns the number of actions.
func play(t *rapid.T, w world) (actions int) {
	m := newMachine(t, w)
	steps := rapid.StateMachineActions(m)
	check := steps[""]
	steps[""] = func(t *rapid.T) {
		actions++
		check(t)
	}
	t.Repeat(steps)
	return actions
}
