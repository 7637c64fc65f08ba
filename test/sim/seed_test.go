//go:build !race

package sim

import (
	"fmt"
	"testing"

	"github.com/redisidem/redisidem/test/internal/rung"
)

// TestSameSeedMakesTheSameHistory runs histories until each has happened twice in the same way.
// Normally the second run does. But Go preempts a goroutine after ten milliseconds of real time,
// and so does a busy machine. With the race detector the order of goroutines is always random.
func TestSameSeedMakesTheSameHistory(t *testing.T) {
	const many, times = 30, 200
	seed := rung.Seed(t)
	seen := make(map[string]int) // how often each history has happened
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
