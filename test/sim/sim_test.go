// Package sim tests whole services in simulated worlds: four workers, each with a service and a
// client of its own, work on two keys of an embedded server, in fake time, while connections lose,
// delay, double and refuse what is sent, and workers are cut off for longer than their lease. They
// use all of the public API: Do, stages by hand, flows with interim answers and compensations,
// leases, waiters, a completer, callers who leave, also at once, callbacks that outlast their
// lease, fail or panic, workers that are cut off for good, as if they were killed, operators who
// unlock, delete, update and requeue; some histories are of services with encrypted values, or with
// copies of finished records.
//
// What they see and learn is checked against the promise that opens the documentation of package
// redisidem:
//
//   - each key is a register to which revisions are added: every history is checked with porcupine
//     for being linearizable, with commits of unknown fault open for ever;
//   - no two callbacks believe at the same time that they have the lease, and fences only grow;
//   - nothing goes wrong without a cause: no commit is refused unless another worker has claimed,
//     no lease is lost, no fault unknown and no Redis unavailable unless a fault has struck; calls
//     return in time;
//   - Stage.Attempt and Key.Attempts count the leases under which a callback has begun, and of the
//     others only those that could not be give back; no callback begins with a context that has
//     ended;
//   - a key of a flow that is not finished has a lease, or is due, or a dead letter, whatever
//     operators do: after every request;
//   - effects are there exactly for what was committed, records and locks all expire, a finished
//     record never changes;
//   - when no fault strikes any more, every key can be finished at once.
//
// How many histories are made is a matter of -size or -histories:
//
//	go test -count=1 -v ./test/sim -size change                     # 2,000, half a minute
//	go test -count=1 -v -timeout 2h ./test/sim -size nightly        # 100,000
//	go test -count=1 -v -timeout 24h ./test/sim -size release       # 1,000,000
//	go test -count=1 -v -run Histories ./test/sim -histories 50
//
// The seed of a history that failed is printed, with all that happened. The same seed makes the
// same history, to the nanosecond, as long as the machine does not stop the process for more than
// ten milliseconds:
//
//	go test -count=1 -v -run Histories ./test/sim -histories 1 -show -seed 42
package sim

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/test/internal/rung"
)

var (
	histories = flag.Int("histories", 0, "how many histories are made; 0: as -size says")
	show      = flag.Bool("show", false, "print the histories, not only those that fail")
)

// enough is how many histories have something of everything in them.
const enough = 1000

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about connections that are broken on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestHistories(t *testing.T) {
	many := *histories
	if many == 0 {
		many = rung.Size(t, 2_000, 100_000, 1_000_000)
	}
	seed := rung.Seed(t)
	sum := explore(t, seed, many, func(o outcome) {
		if len(o.Violations) > 0 {
			t.Errorf("%s\nit is repeated by: go test -count=1 -v -run Histories ./test/sim -histories 1 -show -seed %d", o, o.Seed)
		} else if *show {
			t.Log(o)
		}
	})
	c := sum.count
	t.Logf("%+v", c)
	if many >= enough {
		c.lacks(t)
	}
	rung.Figure(t, "R1", "%d histories, 0 violations: %d calls, %d callbacks, %d commits acknowledged of which %d in the background, "+
		"%d fenced, %d leases lost, %d keys finished by a completer; %.0f histories/s and core", sum.histories, c.Operations, c.Callbacks, c.Committed, c.Landed,
		c.Fenced, c.Lost, c.Swept, float64(sum.histories)/sum.cpu.Seconds())
}

// TestSameSeedMakesTheSameHistory makes histories until each has been made twice in the same way.
// The second time does, but that Go takes a goroutine off its processor when ten milliseconds of
// real time have passed, and so does a busy machine.
func TestSameSeedMakesTheSameHistory(t *testing.T) {
	if raced {
		t.Skip("with the race detector the order of goroutines is random")
	}
	const many, times = 30, 20
	seed := rung.Seed(t)
	seen := make(map[string]int) // how often which history
	again := make(map[uint64]bool)
	note := func(o outcome) {
		h := fmt.Sprintf("%d:%x", o.Seed, o.Hash)
		seen[h]++
		again[o.Seed] = seen[h] < 2
	}
	explore(t, seed, many, note)
	explore(t, seed, many, note)
	var late []uint64
	for i := range uint64(many) {
		if again[seed+i] {
			late = append(late, seed+i)
		}
		for n := 2; again[seed+i] && n < times; n++ {
			explore(t, seed+i, 1, note)
		}
		if again[seed+i] {
			t.Errorf("%d histories of seed %d differ: %v", times, seed+i, seen)
		}
	}
	rung.Figure(t, "R2", "%d of %d seeds make the same history in another process, %d at once", many, many, many-len(late))
}

// A checker that cannot fail proves nothing: a server that forgets breaks the promise.
func TestServerThatForgetsIsNoticed(t *testing.T) {
	const tries = 30
	seed := rung.Seed(t)
	noticed := 0
	for i := range uint64(tries) {
		o := simulate(t, seed+i, true)
		if slices.Contains(o.Violations, notLinearizable) {
			noticed++
		}
	}
	t.Logf("%d of %d histories on a server that forgets are found out", noticed, tries)
	if noticed < tries/2 {
		t.Error("fewer than half of them")
	}
}

// String returns all that happened.
func (o outcome) String() string {
	return fmt.Sprintf("the history of seed %d (%x):\n%s\n%d violations:\n%s", o.Seed, o.Hash, strings.Join(o.Trace, "\n"),
		len(o.Violations), strings.Join(o.Violations, "\n"))
}
