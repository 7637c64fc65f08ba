// Package load drives operations. In a closed loop each caller starts the next operation when the
// previous one is done. In an open loop operations are due at a fixed rate, regardless of their
// duration.
package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// Operation does one operation and checks its result. An error ends the run. n counts the caller's
// operations. A returned duration above zero is the latency to count, for scenarios that time a
// part of the operation.
type Operation func(ctx context.Context, caller int, n uint64) (time.Duration, error)

// Plan sets how to drive an operation.
type Plan struct {
	Callers  int
	Duration time.Duration
	// Rate is the number of operations per second in an open loop. Zero means a closed loop.
	Rate float64
	// First is the number of each caller's first operation. A later run can continue with
	// Result.Next.
	First uint64
}

// Result is the result of a run.
type Result struct {
	Sample result.Sample
	// Next is a number that no caller has used.
	Next uint64
}

const (
	lowest  = int64(100 * time.Nanosecond)
	highest = int64(10 * time.Minute)
)

// Run drives the operation for the plan's duration, then waits for the operations in flight. Each
// caller does at least one operation, even if it gets the processor late, because a sample without
// operations is useless.
func Run(ctx context.Context, p Plan, op Operation) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	histograms := make([]*hdrhistogram.Histogram, p.Callers)
	reached := make([]uint64, p.Callers)
	var due atomic.Int64 // the next operation of an open loop
	var running sync.WaitGroup
	began := time.Now()
	end := began.Add(p.Duration)
	for caller := range p.Callers {
		histograms[caller] = hdrhistogram.New(lowest, highest, 3)
		running.Go(func() {
			n := p.First
			defer func() { reached[caller] = n }()
			for ctx.Err() == nil {
				start := time.Now()
				if p.Rate > 0 {
					// The latency counts from the time at which the operation was due, even if the
					// caller is late.
					start = began.Add(time.Duration(float64(due.Add(1)-1) / p.Rate * float64(time.Second)))
					if start.After(end) || !sleepUntil(ctx, start) {
						return
					}
				} else if start.After(end) && (caller > 0 || n > p.First) {
					return
				}
				took, err := op(ctx, caller, n)
				n++
				if err != nil {
					cancel(fmt.Errorf("caller %d, operation %d: %w", caller, n-1, err))
					return
				}
				if took == 0 {
					took = time.Since(start)
				}
				_ = histograms[caller].RecordValue(min(max(int64(took), lowest), highest)) // the value is within its bounds
			}
		})
	}
	running.Wait()
	elapsed := time.Since(began)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	all := hdrhistogram.New(lowest, highest, 3)
	r := Result{}
	for caller, h := range histograms {
		all.Merge(h)
		r.Next = max(r.Next, reached[caller])
	}
	r.Sample = sample(all, elapsed)
	return r, nil
}

func sample(h *hdrhistogram.Histogram, elapsed time.Duration) result.Sample {
	us := func(percentile float64) float64 { return float64(h.ValueAtQuantile(percentile)) / 1e3 }
	return result.Sample{
		Operations: h.TotalCount(), Seconds: elapsed.Seconds(), PerSecond: float64(h.TotalCount()) / elapsed.Seconds(),
		Latency: result.Latency{P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: float64(h.Max()) / 1e3},
	}
}

// sleepUntil waits until t. It returns false if ctx ends first.
func sleepUntil(ctx context.Context, t time.Time) bool {
	pause := time.Until(t)
	if pause <= 0 {
		return true
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
