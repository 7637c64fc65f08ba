//go:build unix

// Package topology changes what is behind a service while it works: masters that die or freeze under Sentinel, masters and slots
// of a cluster that move, a server whose clock is set an hour forward or back. Nothing that was acknowledged may be lost or happen
// twice.
//
//	go test -v ./test/topology -size change
//	go test -v ./test/topology -size nightly -timeout 2h
//	go test -v -run Sentinel ./test/topology -failovers 20 -seed 42
//
// Random choices come from the seed; what the load is doing at the moment is a matter of the machine.
package topology

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var (
	failovers  = flag.Int("failovers", 0, "how many masters are lost; 0 for what -size says")
	migrations = flag.Int("migrations", 0, "how many slots move; 0 for what -size says")
	steps      = flag.Int("steps", 0, "how many times the clock is set; 0 for what -size says")
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	flag.Parse()
	leak.Main(m)
}

// quiet keeps go-redis from writing about connections that break.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// count returns what a flag says, or else the rung's size.
func count(t *testing.T, asked, change, nightly, release int) int {
	if asked > 0 {
		return asked
	}
	return rung.Size(t, change, nightly, release)
}

// dice is where a test's random choices come from.
func dice(t *testing.T) *rand.Rand { return rand.New(rand.NewPCG(rung.Seed(t), 0)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until blocks until it holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = time.Minute
	for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// spread tells of durations.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	const unit = 10 * time.Millisecond
	return fmt.Sprintf("median %v, p99 %v, longest %v", d[len(d)/2].Round(unit), d[len(d)*99/100].Round(unit), d[len(d)-1].Round(unit))
}
