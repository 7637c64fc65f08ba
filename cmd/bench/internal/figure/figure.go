// Package figure measures the figures of docs/performance.md. Each figure is a ratio of two numbers
// that are measured in the same run, in turns. A busy machine thus slows both.
package figure

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// Plan sets how much to measure.
type Plan struct {
	Duration    time.Duration // of each sample
	Repetitions int
	// Records is the number of records at which the growth of the server's time is measured.
	Records int64
	// Counted is the number of lifecycles that the server's instructions are counted for.
	Counted int64
	// Only holds the numbers of the figures to measure. Empty means all.
	Only []int
	// Step is called with a label before each measurement.
	Step func(label string)
}

// Measure measures all figures on private servers. It returns one of the servers, which the caller
// must stop. If Measure fails or is interrupted, it returns the error and the figures measured so
// far. The server is nil if none was started.
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

// Count is the number of figures. Their numbers start at 1.
const Count = 10

// steps is the number of calls of Step for each figure.
var steps = [Count]int{1, 2, 1, 2, 1, 2, 1, 1, 1, 1}

// Steps returns how often Measure will call Step.
func (p Plan) Steps() int {
	sum := 0
	for i, n := range steps {
		if len(p.Only) == 0 || slices.Contains(p.Only, i+1) {
			sum += n
		}
	}
	return sum
}

// latency is the latency that the slow network adds to a round trip.
const latency = 2 * time.Millisecond

// measurement is one measurement of all figures.
type measurement struct {
	plan      Plan
	near, far *target.Server
	figures   []result.Figure
}

// parts holds the function that measures each figure.
func (m *measurement) parts() [Count]func(context.Context) error {
	return [...]func(context.Context) error{
		m.lifecycle, m.oneCaller, m.slowNetwork, m.replay, m.handOver, m.serverTime, m.middleware, m.gateway, m.client, m.instructions,
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

// contestant is one side of a ratio. It returns its throughput over a sample.
type contestant func(ctx context.Context, d time.Duration) (perSecond float64, err error)

// sample runs the contestant for d. If no operation has finished by then, it continues until one
// has, so that the ratio is defined.
func (c contestant) sample(ctx context.Context, d time.Duration) (perSecond float64, err error) {
	for range 6 {
		if perSecond, err = c(ctx, d); err != nil || perSecond > 0 {
			return perSecond, err
		}
		d *= 2
	}
	return 0, fmt.Errorf("nothing was finished within %v", d/2)
}

// turns runs contestants in turns and returns the samples of each. Each turn begins with an empty
// server, if empty is not nil.
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

// driven creates a contestant that runs an operation.
func driven(callers int, op load.Operation) contestant {
	next := uint64(0)
	return func(ctx context.Context, d time.Duration) (float64, error) {
		r, err := load.Run(ctx, load.Plan{Callers: callers, Duration: d, First: next}, op)
		next = r.Next
		return r.Sample.PerSecond, err
	}
}

// contenderOf creates a contestant that runs a contender in a scenario. The caller must call the
// returned function.
func contenderOf(ctx context.Context, server *target.Server, kind string, s scenario.Scenario, callers int, prefix string) (
	contestant, func(), error,
) {
	k, ok := contender.ByName(kind)
	if !ok {
		return nil, nil, fmt.Errorf("contender %q does not exist", kind)
	}
	return contestantOf(ctx, server, k, s, callers, prefix)
}

// contestantOf is contenderOf with the kind of a contender.
func contestantOf(ctx context.Context, server *target.Server, k contender.Kind, s scenario.Scenario, callers int, prefix string) (
	contestant, func(), error,
) {
	op, end, err := operationOf(ctx, server, k, s, callers, prefix)
	if err != nil {
		return nil, nil, err
	}
	return driven(callers, op), end, nil
}

// operationOf returns a contender's operation in a scenario. The caller must call the returned
// function.
func operationOf(ctx context.Context, server *target.Server, k contender.Kind, s scenario.Scenario, callers int, prefix string) (
	load.Operation, func(), error,
) {
	g, err := k.Open(ctx, server.Link(callers), prefix+k.Name)
	if err != nil {
		return nil, nil, err
	}
	op, end, err := s.Prepare(ctx, scenario.Subject{Contender: g, Kind: k, Callers: callers, Body: body})
	if err != nil {
		_ = g.Close() // the other error matters more
		return nil, nil, err
	}
	return op, func() {
		_ = end()     // the operations have already returned an error
		_ = g.Close() // as above
	}, nil
}

// body is the size of a response in bytes.
const body = 200

// client returns a go-redis client of a server.
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
