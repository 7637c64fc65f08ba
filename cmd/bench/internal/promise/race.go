package promise

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
)

// race sends one request through all callers of all replicas at once. It returns how often it ran,
// and how many different answers the callers got.
func race(ctx context.Context, all []contender.Contender) (runs, answers int, err error) {
	var ran atomic.Int64
	work := func(ctx context.Context) ([]byte, error) {
		n := ran.Add(1)
		return fmt.Appendf(nil, "run %d", n), sleep(ctx, 50*time.Millisecond)
	}
	type reply struct {
		answer []byte
		err    error
	}
	replies := make(chan reply, len(all)*callers)
	start := make(chan struct{})
	var running sync.WaitGroup
	for _, c := range all {
		for range callers {
			running.Go(func() {
				<-start
				answer, err := insist(ctx, c, request("race"), work)
				replies <- reply{answer, err}
			})
		}
	}
	close(start)
	running.Wait()
	close(replies)
	different := make(map[string]bool)
	for r := range replies {
		if r.err != nil {
			return 0, 0, r.err
		}
		different[string(r.answer)] = true
	}
	return int(ran.Load()), len(different), nil
}
