// Package figure measures the figures that the project answers to. Each is a ratio of two things measured in the same run,
// turn by turn, so that a slow or busy machine is slow and busy for both.
package figure

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/guard"
	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// Plan says how much to measure.
type Plan struct {
	Duration    time.Duration // of each sample
	Repetitions int
	// Records is how many records there are when the growth of the server's time with them is measured.
	Records int64
	// Only are the numbers of the figures to measure; none: all.
	Only []int
	// Step is told what is measured next.
	Step func(label string)
}

// Measure measures all figures on private servers, and returns one of these, which the caller must stop. When it fails, or is
// interrupted, it returns the error with the figures that it has by then, and nil in place of a server that never was.
func Measure(ctx context.Context, p Plan) ([]result.Figure, *target.Server, error) {
	near, err := target.Start(ctx, "", 0)
	if err != nil {
		return nil, nil, err
	}
	if !near.Measured {
		return nil, near, fmt.Errorf("figures need redis-server: nothing on the embedded server is a measurement")
	}
	far, err := target.Start(ctx, "", latency)
	if err != nil {
		return nil, near, err
	}
	defer far.Stop()
	m := &measurement{plan: p, near: near, far: far}
	for i, part := range m.parts() {
		if len(p.Only) > 0 && !slices.Contains(p.Only, i+1) {
			continue
		}
		if err := part(ctx); err != nil {
			return m.figures, near, fmt.Errorf("figure %d: %w", i+1, err)
		}
	}
	return m.figures, near, nil
}

// Count is how many figures there are. They are numbered from 1.
const Count = 7

// steps is how often each figure calls Step.
var steps = [Count]int{1, 1, 1, 2, 1, 2, 1}

// Steps returns how often Measure is going to call Step.
func (p Plan) Steps() int {
	sum := 0
	for i, n := range steps {
		if len(p.Only) == 0 || slices.Contains(p.Only, i+1) {
			sum += n
		}
	}
	return sum
}

// latency is what the slow network adds to a round trip.
const latency = 2 * time.Millisecond

// measurement is one measurement of all figures.
type measurement struct {
	plan      Plan
	near, far *target.Server
	figures   []result.Figure
}

// parts are what measures each figure.
func (m *measurement) parts() [Count]func(context.Context) error {
	return [...]func(context.Context) error{
		m.lifecycle, m.oneCaller, m.slowNetwork, m.replay, m.handOver, m.serverTime, m.middleware,
	}
}

// add adds a figure.
func (m *measurement) add(number int, title string, s result.Spread, bound float64, atMost bool, unit string) {
	f := result.Figure{
		Number: number, Title: title, Value: s.Median, Low: s.Low, High: s.High, Bound: bound, AtMost: atMost, Unit: unit,
	}
	f.Pass = f.Value >= bound
	if atMost {
		f.Pass = f.Value <= bound
	}
	m.figures = append(m.figures, f)
}

// contestant is one side of a ratio: it gives its throughput over a sample.
type contestant func(ctx context.Context, d time.Duration) (perSecond float64, err error)

// sample lets the contestant work for so long, or longer if nothing was finished by then: a ratio of nothing would be no figure.
func (c contestant) sample(ctx context.Context, d time.Duration) (perSecond float64, err error) {
	for range 6 {
		if perSecond, err = c(ctx, d); err != nil || perSecond > 0 {
			return perSecond, err
		}
		d *= 2
	}
	return 0, fmt.Errorf("nothing was finished within %v", d/2)
}

// turns lets contestants take turns, and returns the samples of each. Each begins with an empty server, unless that is nil.
func (m *measurement) turns(ctx context.Context, label string, empty *target.Server, all ...contestant) ([][]float64, error) {
	samples := make([][]float64, len(all))
	m.plan.Step(label)
	for i := range m.plan.Repetitions + 1 {
		for j := range all {
			k := (i + j) % len(all)
			if empty != nil {
				if err := empty.Empty(ctx, "figure"); err != nil {
					return nil, fmt.Errorf("%s: %w", label, err)
				}
			}
			runtime.GC()
			perSecond, err := all[k].sample(ctx, m.plan.Duration)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", label, err)
			}
			if i > 0 { // the first round warms up
				samples[k] = append(samples[k], perSecond)
			}
		}
	}
	return samples, nil
}

// ratio divides samples turn by turn.
func ratio(a, b []float64) result.Spread {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return result.SpreadOf(ratios)
}

// driven makes a contestant of an operation.
func driven(callers int, op load.Operation) contestant {
	next := uint64(0)
	return func(ctx context.Context, d time.Duration) (float64, error) {
		r, err := load.Run(ctx, load.Plan{Callers: callers, Duration: d, First: next}, op)
		next = r.Next
		return r.Sample.PerSecond, err
	}
}

// guarded makes a contestant of a kind of guard in a scenario. The caller must call the function that comes with it.
func guarded(ctx context.Context, server *target.Server, kind string, s scenario.Scenario, callers int, prefix string) (
	contestant, func(), error,
) {
	k, ok := guard.ByName(kind)
	if !ok {
		return nil, nil, fmt.Errorf("there is no contender %q", kind)
	}
	g, err := k.Open(ctx, server.Link(callers), prefix+kind)
	if err != nil {
		return nil, nil, err
	}
	op, end, err := s.Prepare(ctx, scenario.Subject{Guard: g, Kind: k, Callers: callers, Body: body})
	if err != nil {
		_ = g.Close() // the other error matters more
		return nil, nil, err
	}
	return driven(callers, op), func() {
		_ = end()     // what it can tell has been told by the operations
		_ = g.Close() // the same
	}, nil
}

// body is the size of a response in bytes.
const body = 200

// client returns a go-redis client for a server.
func client(ctx context.Context, server *target.Server, callers int) (*redis.Client, error) {
	c, err := server.Link(callers).Client(ctx)
	if err != nil {
		return nil, err
	}
	single, ok := c.(*redis.Client)
	if !ok {
		return nil, fmt.Errorf("the client is a %T", c)
	}
	return single, nil
}

// template captures a lifecycle on a server.
func template(ctx context.Context, server *target.Server, callers int) (*limit.Template, *redis.Client, string, error) {
	addr, err := server.Addr()
	if err != nil {
		return nil, nil, "", err
	}
	c, err := client(ctx, server, callers)
	if err != nil {
		return nil, nil, "", err
	}
	t, err := limit.Capture(ctx, c, "figure")
	return t, c, addr, err
}
