package scenario

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

const (
	smallest, largest = 100, 64 << 10 // bytes of a response
	retries           = 20            // one request in this many is a retry
)

var mixed = Scenario{
	Name: "mixed", Title: "Mixed traffic",
	About: "95 % first executions and 5 % retries, of recent keys more than of old ones (Zipf); responses from 100 B to 64 KiB, " +
		"as many of each order of magnitude.",
	Kinds:   []string{"redislock", "redisidem-auto", "redisidem", "redislock-auto", "redsync", "gofiber"},
	Callers: 64, Leaves: true, Varied: true,
	Prepare: func(_ context.Context, s Subject) (load.Operation, func() error, error) {
		// Each caller retries only its own requests, so that it knows that they are finished.
		var mu sync.Mutex
		callers := make(map[int]*traffic)
		return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
			mu.Lock()
			t := callers[caller]
			if t == nil {
				t = &traffic{random: rand.New(rand.NewPCG(uint64(caller), n))}
				callers[caller] = t
			}
			mu.Unlock()
			if t.done > 0 && n%retries == 0 {
				old := t.done - 1 - rand.NewZipf(t.random, 1.1, 1, t.done-1).Uint64()
				return 0, again(ctx, s.Contender, request("mixed", caller, old), sizeOf(caller, old))
			}
			number := t.done
			t.done++
			return 0, execute(ctx, s.Contender, request("mixed", caller, number), sizeOf(caller, number))
		}, nothing, nil
	},
}

// traffic is the history of one caller. Only one operation of a caller runs at a time.
type traffic struct {
	done   uint64 // number of requests done; they start at 0
	random *rand.Rand
}

// sizeOf returns the size of the response to a caller's n-th request.
func sizeOf(caller int, n uint64) int {
	share := float64(mix(caller, n)>>11) / (1 << 53)
	return int(smallest * math.Pow(float64(largest)/smallest, share))
}
