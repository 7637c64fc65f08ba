package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
	"github.com/redisidem/redisidem/cmd/bench/internal/machine"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// Plan sets how much to measure.
type Plan struct {
	Callers     int // 0: the scenario's default
	Body        int // bytes of a response
	Duration    time.Duration
	Repetitions int
	Records     int64    // on the server before; needs a private server
	Rate        float64  // operations per second in an open loop; 0: a closed loop
	Kinds       []string // a selection of the scenario's contenders; empty: all
	// Step is called when a slice of the measurement begins. It may be nil.
	Step func(label string)
}

// Steps returns how often Run will call Step.
func (p Plan) Steps(s Scenario) int { return (p.Repetitions + 1) * len(p.Contenders(s)) }

// Contenders returns the contenders of the scenario that were chosen and are available.
func (p Plan) Contenders(s Scenario) []string {
	return slices.DeleteFunc(slices.Clone(s.Kinds), func(name string) bool {
		_, ok := contender.ByName(name)
		return !ok || len(p.Kinds) > 0 && !slices.Contains(p.Kinds, name)
	})
}

func (p Plan) callers(s Scenario) int {
	if p.Callers == 0 || s.Timed {
		return s.Callers
	}
	return p.Callers
}

// Run measures the contenders of a scenario side by side. Each repetition gives each of them a
// slice of time, one after the other. A contender that fails has its error in place of a result.
// Run returns an error if the server fails or ctx ends.
//
// Run removes its keys before it returns, even after an error.
func Run(ctx context.Context, server *target.Server, s Scenario, p Plan) (points []result.Point, err error) {
	prefix := "bench" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	var all []*participant
	defer func() {
		for _, c := range all {
			c.close()
		}
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		err = errors.Join(err, server.Empty(detached, prefix))
	}()
	if p.Records > 0 {
		if err := fill(ctx, server, p.Records); err != nil {
			return nil, err
		}
	}
	for i, name := range p.Contenders(s) {
		kind, ok := contender.ByName(name)
		if !ok {
			return nil, fmt.Errorf("contender %q does not exist", name)
		}
		c := &participant{
			kind: kind, server: server, scenario: s, callers: p.callers(s), body: p.Body,
			prefix: fmt.Sprintf("%s-%d-", prefix, i), // a prefix does not begin with another prefix
		}
		if s.Varied {
			c.body = 0
		}
		all = append(all, c)
		p.step(s, kind)
		c.err = c.open(ctx)
		if c.err == nil {
			_, c.err = c.drive(ctx, p.Duration/4, p.Rate) // warm-up
		}
	}
	for i := range p.Repetitions {
		for j := range all {
			c := all[(i+j)%len(all)] // contenders take turns at being first
			p.step(s, c.kind)
			if c.err == nil {
				c.err = c.measure(ctx, p.Duration, p.Rate)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	for _, c := range all {
		if c.err == nil {
			c.err = c.probe(ctx, p.Duration)
		}
		c.close()
	}
	for i, c := range all {
		if c.err == nil && s.Leaves {
			c.weight, c.err = server.Weigh(ctx, c.prefix) // needs all connections to be closed
		}
		points = append(points, c.point(i == 0, p))
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !s.Timed {
		compare(points)
	}
	return points, nil
}

// cleaning limits the time for the removal of a run's keys.
const cleaning = time.Minute

func (p Plan) step(s Scenario, k contender.Kind) {
	if p.Step != nil {
		p.Step(s.Title + ": " + k.Title)
	}
}

// participant is one contender in a scenario.
type participant struct {
	kind          contender.Kind
	server        *target.Server
	scenario      Scenario
	callers, body int
	prefix        string

	link      *target.Link
	contender contender.Contender
	op        load.Operation
	end       func() error
	next      uint64
	err       error
	samples   []result.Sample

	// These are sums over the samples.
	operations            int64
	serverCPU, clientCPU  float64
	in, out, count, bytes float64
	trips                 float64
	weight                float64
	closed                bool
}

func (c *participant) open(ctx context.Context) error {
	c.link = c.server.Link(c.callers)
	g, err := c.kind.Open(ctx, c.link, c.prefix+c.kind.Name)
	if err != nil {
		return err
	}
	c.contender = g
	c.op, c.end, err = c.scenario.Prepare(ctx, Subject{
		Contender: g, Kind: c.kind, Callers: c.callers, Body: c.body, Slow: !c.server.Measured,
	})
	return err
}

// close closes what open opened. Later calls do nothing.
func (c *participant) close() {
	if c.closed {
		return
	}
	c.closed = true
	var err error
	if c.end != nil {
		err = c.end()
	}
	if c.contender != nil {
		err = errors.Join(err, c.contender.Close())
	}
	c.err = errors.Join(c.err, err)
}

func (c *participant) drive(ctx context.Context, d time.Duration, rate float64) (result.Sample, error) {
	r, err := load.Run(ctx, load.Plan{Callers: c.callers, Duration: d, Rate: rate, First: c.next}, c.op)
	c.next = r.Next
	return r.Sample, err
}

// measure takes one sample and its cost.
func (c *participant) measure(ctx context.Context, d time.Duration, rate float64) error {
	runtime.GC() // on a shared server, only the run's own keys are removed
	before, err := c.server.Stats(ctx)
	if err != nil {
		return err
	}
	in, out := c.link.Bytes()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	cpu := machine.ProcessorTime()

	sample, err := c.drive(ctx, d, rate)
	if err != nil {
		return err
	}
	cpu = machine.ProcessorTime() - cpu
	runtime.ReadMemStats(&m1)
	in2, out2 := c.link.Bytes()
	after, err := c.server.Stats(ctx)
	if err != nil {
		return err
	}
	c.samples = append(c.samples, sample)
	c.operations += sample.Operations
	c.serverCPU += after.CPU - before.CPU
	c.clientCPU += cpu
	if c.link.Blind() {
		c.in += after.In - before.In
		c.out += after.Out - before.Out
	} else {
		c.in += float64(in2 - in)
		c.out += float64(out2 - out)
	}
	c.count += float64(m1.Mallocs - m0.Mallocs)
	c.bytes += float64(m1.TotalAlloc - m0.TotalAlloc)
	return nil
}

// probes is the number of operations that one caller does to count round trips. It does fewer if
// the time runs out.
const fewestProbes, probes = 10, 400

// probe counts the round trips of a single caller, since several concurrent requests may share one.
// It does nothing if some traffic is not counted.
func (c *participant) probe(ctx context.Context, d time.Duration) error {
	if c.link.Blind() {
		return nil
	}
	before := c.link.Trips()
	began := time.Now()
	n := 0
	for n < probes && (n < fewestProbes || time.Since(began) < d) {
		if _, err := c.op(ctx, 0, c.next); err != nil {
			return err
		}
		c.next++
		n++
	}
	c.trips = float64(c.link.Trips()-before) / float64(n)
	return nil
}

func (c *participant) point(baseline bool, plan Plan) result.Point {
	p := result.Point{
		Contender: c.kind.Name, Title: c.kind.Title, About: c.kind.About, Own: c.kind.Own, Replays: c.kind.Replays, Baseline: baseline,
		Callers: c.callers, BodyBytes: c.body, Records: plan.Records, Rate: plan.Rate, Samples: c.samples,
	}
	if c.err != nil {
		p.Error, p.Skipped, p.Samples = c.err.Error(), c.unable(), nil
		return p
	}
	n := float64(max(c.operations, 1))
	p.Cost = result.Cost{
		Blind: c.link.Blind(), RoundTrips: c.trips, BytesIn: c.in / n, BytesOut: c.out / n, ServerCPU: c.serverCPU * 1e6 / n,
		ClientCPU: c.clientCPU * 1e6 / n, Allocations: c.count / n, AllocBytes: c.bytes / n, RecordMemory: c.weight,
	}
	return p
}

// unable reports whether the contender cannot take part here. That is not a failure.
func (c *participant) unable() bool {
	return errors.Is(c.err, target.ErrNoAddr) || errors.Is(c.err, contender.ErrUnable)
}

// compare divides each point's throughput by the baseline's, repetition by repetition.
func compare(points []result.Point) {
	if len(points) == 0 || points[0].Error != "" {
		return
	}
	base := points[0].Samples
	for i := range points[1:] {
		p := &points[i+1]
		if p.Error != "" || len(p.Samples) != len(base) || p.Rate > 0 {
			continue
		}
		ratios := make([]float64, len(base))
		for j, sample := range p.Samples {
			ratios[j] = sample.PerSecond / base[j].PerSecond
		}
		spread := result.SpreadOf(ratios)
		p.Ratio = &spread
	}
}
