package load_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

func TestClosedLoopCountsWhatWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int64
		plan := load.Plan{Callers: 4, Duration: time.Second, First: 7}
		r, err := load.Run(context.Background(), plan, func(_ context.Context, caller int, n uint64) (time.Duration, error) {
			ran.Add(1)
			time.Sleep(10 * time.Millisecond)
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The last operations begin exactly at the end.
		if want := int64(4 * 101); ran.Load() != want || r.Sample.Operations != want || r.Next != 7+101 {
			t.Errorf("%d operations ran, %+v", ran.Load(), r)
		}
		if s := r.Sample; s.Latency.P50 < 9990 || s.Latency.P50 > 10020 || s.PerSecond < 395 || s.PerSecond > 405 {
			t.Errorf("the sample is %+v", s)
		}
	})
}

func TestSampleIsNeverOfNothing(t *testing.T) {
	t.Parallel()
	for _, plan := range []load.Plan{{Callers: 3, Duration: 1}, {Callers: 3, Duration: 1, First: 5}, {Callers: 3, Duration: 1, Rate: 0.001}} {
		r, err := load.Run(context.Background(), plan, func(context.Context, int, uint64) (time.Duration, error) { return 0, nil })
		if s := r.Sample; err != nil || s.Operations == 0 || s.PerSecond <= 0 || s.Latency.Max <= 0 || r.Next <= plan.First {
			t.Errorf("%+v: %+v, %v", plan, r, err)
		}
	}
}

// TestOpenLoopCountsFromWhenAnOperationWasDue has operations that take longer than the rate allows.
// Their latency must grow, because it includes the wait for a late start.
func TestOpenLoopCountsFromWhenAnOperationWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := load.Plan{Callers: 1, Duration: time.Second, Rate: 100}
		r, err := load.Run(context.Background(), plan, func(context.Context, int, uint64) (time.Duration, error) {
			time.Sleep(20 * time.Millisecond) // twice the interval between operations
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Sample; s.Operations != 101 || s.Latency.Max < 900_000 || s.Latency.P50 < 400_000 {
			t.Errorf("the sample is %+v", s)
		}
	})
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := load.Plan{Callers: 8, Duration: 2 * time.Second, Rate: 50}
		r, err := load.Run(context.Background(), plan, func(context.Context, int, uint64) (time.Duration, error) {
			time.Sleep(5 * time.Millisecond)
			return 0, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Sample; s.Operations != 101 || s.Latency.Max > 5010 {
			t.Errorf("the sample is %+v", s)
		}
	})
}

func TestGivenLatencyCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := load.Run(context.Background(), load.Plan{Callers: 1, Duration: 50 * time.Millisecond},
			func(context.Context, int, uint64) (time.Duration, error) {
				time.Sleep(10 * time.Millisecond)
				return time.Millisecond, nil
			})
		if err != nil || r.Sample.Latency.P50 < 990 || r.Sample.Latency.P50 > 1010 {
			t.Errorf("the sample is %+v, %v", r.Sample, err)
		}
	})
}

func TestFirstErrorEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("wrong bytes")
		_, err := load.Run(context.Background(), load.Plan{Callers: 4, Duration: time.Hour},
			func(_ context.Context, caller int, n uint64) (time.Duration, error) {
				time.Sleep(time.Millisecond)
				if caller == 2 && n == 5 {
					return 0, failure
				}
				return 0, nil
			})
		if !errors.Is(err, failure) {
			t.Errorf("the error is %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_, err = load.Run(ctx, load.Plan{Callers: 1, Duration: time.Hour, Rate: 0.001},
			func(context.Context, int, uint64) (time.Duration, error) { return 0, nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("the error is %v after %v", err, time.Since(began))
		}
	})
}
