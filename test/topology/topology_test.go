//go:build linux

// Package topology tests that the promise holds while the servers themselves change: a master under
// Sentinel that dies or freezes and is replaced, a cluster that fails over and moves its slots, and
// a server whose clock is set. All of it happens under load, by callers that come back with their
// keys until they have an answer, and that remember their answers.
//
//	go test -count=1 -v ./test/topology -size change  # for every change: 3 minutes
//	go test -count=1 -v -timeout 2h ./test/topology -size nightly  # for every night
//	go test -count=1 -v -run Clock ./test/topology -steps 50 -seed 7  # or other numbers
//
// A seed decides who is struck, how, in which order, and by what the clock steps. When callers ask
// is up to the machine, so a seed repeats the faults and not every interleaving. The clock needs
// gcc, which makes a library that the server preloads.
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

// What -size decides can be said one by one.
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

// quiet keeps go-redis from writing about connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// or returns the number that a flag gives, or else the one of the size.
func or(given, sized int) int {
	if given > 0 {
		return given
	}
	return sized
}

// needCompiler ends the test where there is no C compiler, like [rediscase.Need] where there is no
// server.
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
