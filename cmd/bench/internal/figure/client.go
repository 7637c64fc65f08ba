package figure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
	"github.com/redisidem/redisidem/cmd/bench/internal/machine"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
)

// client measures figure 9: what a lifecycle costs this process, next to two bare commands. It does
// without package load, whose histograms cost processor time and memory as well.
func (m *measurement) client(ctx context.Context) error {
	const callers = 256
	s, ok := scenario.ByName("lifecycle")
	if !ok {
		return fmt.Errorf("scenario lifecycle does not exist")
	}
	m.plan.Step("client")
	var sides [2]load.Operation
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for i, name := range []string{"redisidem-auto", "floor-auto"} {
		k, ok := contender.ByName(name)
		if !ok {
			return fmt.Errorf("contender %q does not exist", name)
		}
		op, end, err := operationOf(ctx, m.near, k, s, callers, "figure9-")
		if err != nil {
			return err
		}
		sides[i], ends = op, append(ends, end)
	}
	var next uint64
	var micros [2][]float64
	for turn := range m.plan.Repetitions + 1 {
		for j := range sides {
			i := (turn + j) % len(sides)
			if err := m.near.Empty(ctx, "figure"); err != nil {
				return err
			}
			spent, err := processorTime(ctx, callers, m.plan.Duration, &next, sides[i])
			if err != nil {
				return err
			}
			if turn > 0 { // the first round warms up
				micros[i] = append(micros[i], spent)
			}
		}
	}
	var counts, bytes []float64
	for range m.plan.Repetitions {
		count, size, err := allocations(ctx, &next, sides[0])
		if err != nil {
			return err
		}
		counts, bytes = append(counts, count), append(bytes, size)
	}
	m.add(9, "processor time of a lifecycle in the client, 256 callers, auto-pipelined", result.SpreadOf(micros[0]), 16, true, "µs")
	cost := make([]float64, len(micros[0]))
	for i := range cost {
		cost[i] = micros[0][i] / micros[1][i]
	}
	m.add(9, "... against two bare commands over the same auto-pipeliner", result.SpreadOf(cost), 2, true, "x")
	m.add(9, "... allocations", result.SpreadOf(counts), 50, true, "")
	m.add(9, "... bytes of them", result.SpreadOf(bytes), 4096, true, "")
	return m.near.Empty(ctx, "figure")
}

// processorTime runs an operation from a number of callers for d, and at least once from each. It
// returns this process's time for one, in microseconds.
func processorTime(ctx context.Context, callers int, d time.Duration, next *uint64, op load.Operation) (micros float64, err error) {
	runtime.GC()
	before, began := machine.ProcessorTime(), time.Now()
	var done atomic.Int64
	var running sync.WaitGroup
	var failed sync.Map // caller: error
	reached := make([]uint64, callers)
	for caller := range callers {
		running.Go(func() {
			n := *next
			for ; n == *next || time.Since(began) < d; n++ {
				if _, err := op(ctx, caller, n); err != nil {
					failed.Store(caller, err)
					break
				}
				done.Add(1)
			}
			reached[caller] = n
		})
	}
	running.Wait()
	micros = (machine.ProcessorTime() - before) * 1e6 / float64(max(done.Load(), 1))
	for _, n := range reached {
		*next = max(*next, n)
	}
	failed.Range(func(_, each any) bool {
		one, _ := each.(error)
		err = errors.Join(err, one)
		return err == nil
	})
	return micros, err
}

// allocations returns how many allocations one operation of a lone caller makes, and their bytes.
func allocations(ctx context.Context, next *uint64, op load.Operation) (count, bytes float64, err error) {
	const operations = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range operations {
		if _, err := op(ctx, 0, *next); err != nil {
			return 0, 0, err
		}
		*next++
	}
	runtime.ReadMemStats(&after)
	// Rounded: the runtime itself allocates a few times.
	return math.Round(float64(after.Mallocs-before.Mallocs) / operations), math.Round(float64(after.TotalAlloc-before.TotalAlloc) / operations), nil
}
