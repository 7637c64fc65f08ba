package promise_test

import (
	"testing"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/promise"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestCheck(t *testing.T) {
	t.Parallel()
	rediscase.Need(t)
	server, err := target.Start(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	once := func(first, last result.Late) result.Promise {
		return result.Promise{Runs: 1, Answers: 1, LateFirst: first, LateLast: last}
	}
	kept := once(result.LateRefused, result.LateRefused)
	for name, want := range map[string]result.Promise{
		"redisidem":       kept,
		"redisidem-auto":  kept,
		"redisidem-wait":  kept,
		"redisidem-cache": kept,
		// The lock excludes the others. Its holder does not notice that it has expired.
		"redislock": once(result.LateStored, result.LateRefused),
		"redsync":   once(result.LateStored, result.LateRefused),
		// The lock is that of a process.
		"gofiber": {Runs: 2, Answers: 2, LateFirst: result.LateUnaware, LateLast: result.LateStored},
	} {
		kind, ok := contender.ByName(name)
		if !ok {
			t.Fatal(name)
		}
		got, err := promise.Check(t.Context(), server, kind)
		if err != nil {
			t.Fatal(err)
		}
		want.Contender, want.Title, want.Own, want.Callers = name, kind.Title, kind.Own, 16
		if got != want {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, want)
		}
		if got.Kept() != kind.Own {
			t.Errorf("%s keeps the promise: %v", name, got.Kept())
		}
	}
}
