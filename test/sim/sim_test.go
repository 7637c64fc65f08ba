// Package sim tests whole services in simulated worlds. In each world four workers, each with its
// own service and client, work on two keys of an embedded server, in fake time. Connections lose,
// delay, duplicate and refuse messages. Workers are cut off for longer than their lease.
//
// The workers use most of the public API: Do, stages by hand, flows with interim answers, snoozes
// and compensations, leases, waiters and a completer. Callers leave, some at once. Callbacks
// outlast their lease, fail or panic. Some workers are cut off for good, as if they were killed.
// Operators unlock, delete, update, cancel and requeue keys, one or all dead letters, pause and
// resume the flow for completers and for clients, and rebuild due indexes that were lost. In some
// histories the values are encrypted, services cache copies of finished records, or two versions of
// the flow are at work. The flow has a deadline, a point of no return, a last stage for keys
// without attempts left, or stages that ignore their Timeout.
//
// In some histories all keys were left unfinished before completers come to them: five keys, of two
// scopes and two flows, and mostly two completers, with limits for a scope or a flow. One of them
// may use Run, the others sweep.
//
// All that the workers observe is checked against the promise that opens the documentation of
// package redisidem:
//
//   - Each key is a register to which revisions are added. porcupine checks that every history is
//     linearizable. Commits with an unknown outcome stay open for ever.
//   - No two callbacks believe at the same time that they have the lease, and fences only grow.
//   - Nothing fails without a cause. A commit is refused only if another worker has claimed the
//     key. A lease is lost, an outcome is unknown, or Redis is unavailable only if a fault has
//     struck. Calls return in time.
//   - Stage.Attempt and Key.Attempts count the leases under which a callback has begun. Of the
//     other leases they count only those that could not be given back. A callback does not begin
//     with a context that has ended.
//   - After every request, an unfinished key of a flow has a lease, or is due, or is a dead letter,
//     whatever operators do.
//   - Effects exist exactly for the commits. Records and locks all expire, and a finished record
//     never changes.
//   - A sweep that begins after a pause runs nothing.
//   - A completer with one place comes to another scope's key before it comes to the same scope
//     again. Completers together keep their limits as long as they reach Redis, and each of them
//     keeps the limit for a scope in any case.
//   - A stage that hangs is reported once and on time, with its key, scope and stage. In a sweep
//     without limits another key has its place.
//   - No call runs a snoozed stage too early, and no stage begins after the flow's deadline. A flow
//     is failed only because of its deadline, a cancel or used up attempts.
//   - A completer begins no more attempts at a stage than MaxAttempts. Then, and only then, the key
//     is failed, goes to the last stage or becomes a dead letter, as the flow says.
//   - Behind the point of no return nothing before it is compensated, the flow is not failed, no
//     version adopts the key, and a cancel comes too late.
//   - A record keeps the trace context of the call that made it, and a completer's span has it.
//   - When the faults stop, every key can be finished at once.
//
// The number of histories depends on -size or -histories:
//
//	go test -count=1 -v ./test/sim -size change                     # 2,000, half a minute
//	go test -count=1 -v -timeout 2h ./test/sim -size nightly        # 100,000
//	go test -count=1 -v -timeout 24h ./test/sim -size release       # 1,000,000
//	go test -count=1 -v -run Histories ./test/sim -histories 50
//
// A failure prints the seed of the history and all of its events. The same seed makes the same
// history, to the nanosecond, as long as the machine does not stop the process for more than ten
// milliseconds:
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

// enough is the number of histories in which every kind of event is expected.
const enough = 1000

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet stops go-redis from logging connections that are broken on purpose.
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

// A checker that cannot fail proves nothing. A server that loses its data breaks the promise, and
// the checker must report that.
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

// String returns all events.
func (o outcome) String() string {
	return fmt.Sprintf("the history of seed %d (%x):\n%s\n%d violations:\n%s", o.Seed, o.Hash, strings.Join(o.Trace, "\n"),
		len(o.Violations), strings.Join(o.Violations, "\n"))
}
