//go:build linux

package topology

import (
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// replace makes the sentinels replace a healthy master, as an operator does before maintenance. It
// returns once every caller has received an answer since then and the group is whole again.
// Sentinel does not block writes meanwhile. The old master stores writes until it becomes a
// replica. They are lost unless the new master has them.
func replace(t testing.TB, durability, many int) *load {
	t.Helper()
	g := rediscase.Sentinel(t)
	l := newLoad(t, underSentinel(t, g), durability, lease)
	l.begin(rung.Seed(t))
	for range many {
		before := l.answers()
		until(t, func() bool { return l.answers() > before+2*callers })
		struck := time.Now()
		l.refusals()
		if err := g.Failover(); err != nil {
			t.Fatal(err)
		}
		if err := g.AwaitReady(); err != nil {
			t.Fatal(err)
		}
		l.await(t, struck)
		t.Logf("Durability %d: the group was whole again after %v; answers forgotten so far: %d of %d; callers were refused with: %v",
			durability, time.Since(struck).Round(time.Millisecond), l.forgotten(), l.answers(), l.refusals())
	}
	wrong := l.finish(t, underSentinel(t, g))
	if durability == len(g.Data)-1 {
		report(t, wrong)
		if len(l.lost) > 0 {
			t.Errorf("%d of %d answers are lost, which every replica had acknowledged", len(l.lost), len(l.known))
		}
	}
	return l
}

func TestPlannedSentinelFailoversLoseNothingThatAllReplicasHave(t *testing.T) {
	many := or(*failovers, rung.Size(t, 2, 20, 20))
	all := replace(t, 2, many)
	rung.Figure(t, "R8", "%d planned failovers with 2 replicas, Durability 2: 0 of %d answers lost", many, len(all.known))
}

// TestPlannedSentinelFailoversWithOneOfTwoReplicas measures what Durability 1 loses with two
// replicas. The replica that acknowledged may not be the one that is promoted. The old master may
// still have another replica that acknowledges.
func TestPlannedSentinelFailoversWithOneOfTwoReplicas(t *testing.T) {
	many := or(*failovers, rung.Size(t, 2, 20, 20))
	one := replace(t, 1, many)
	rung.Figure(t, "R8", "%d planned failovers with 2 replicas, Durability 1: %d of %d answers lost", many, len(one.lost), len(one.known))
}
