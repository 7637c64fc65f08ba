//go:build linux

// Package topology tests that the promise holds while the servers change. A master under Sentinel
// dies or freezes and is replaced. A cluster fails over and migrates slots. The clock of a server
// is set. All tests run under load. The callers retry their keys until they have an answer, and
// remember their answers.
//
//	go test -count=1 -v ./test/topology -size change  # for every change: 3 minutes
//	go test -count=1 -v -timeout 2h ./test/topology -size nightly  # for every night
//	go test -count=1 -v -run Clock ./test/topology -steps 50 -seed 7  # or other numbers
//
// A seed decides which servers are struck, how, in which order, and how far the clock steps. The
// machine decides when callers ask. A seed therefore repeats the faults, but not every
// interleaving. The clock needs gcc, which builds a library that the server preloads.
package topology

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// These flags override the numbers that -size sets.
var (
	failovers  = flag.Int("failovers", 0, "how many masters are struck, under Sentinel and in the cluster; 0 for what -size says")
	migrations = flag.Int("migrations", 0, "how many slots are moved; 0 for what -size says")
	steps      = flag.Int("steps", 0, "how often the clock is set; 0 for what -size says")
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	leak.Main(m)
}

// quiet stops go-redis from logging connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// or returns the value of a flag or, if the flag is not set, the number for the size.
func or(given, sized int) int {
	if given > 0 {
		return given
	}
	return sized
}

// needCompiler skips or fails the test when there is no C compiler, as [rediscase.Need] does when
// there is no server.
func needCompiler(t *testing.T) {
	t.Helper()
	rediscase.Need(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		if os.Getenv(rediscase.Variable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}
