package figure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/contender"
	"github.com/redisidem/redisidem/cmd/bench/internal/load"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
	"github.com/redisidem/redisidem/redisidem"
)

// replay measures figure 4.
func (m *measurement) replay(ctx context.Context) error {
	if err := m.copies(ctx); err != nil {
		return err
	}
	return m.store(ctx)
}

var (
	params  = []byte(`{"cart":"8f14e45f","amount":4200,"currency":"EUR","note":"ring twice"}`)
	request = redisidem.Request{Method: "POST", Path: "/orders", Params: params}
)

// finish creates a service with a finished key in a scope.
func (m *measurement) finish(ctx context.Context, callers int, prefix string, change func(*redisidem.Config)) (
	sc *redisidem.Scope, record string, end func(), err error,
) {
	cl, err := client(ctx, m.near, callers)
	if err != nil {
		return nil, "", nil, err
	}
	cfg := &redisidem.Config{Namespace: prefix, Timeout: 10 * time.Second}
	change(cfg)
	svc, err := redisidem.New(cl, cfg)
	if err != nil {
		return nil, "", nil, errors.Join(err, cl.Close())
	}
	end = func() {
		_ = svc.Close(ctx) // nothing is in flight
		_ = cl.Close()
	}
	sc = svc.Scope("bench")
	_, err = sc.Do(ctx, "finished", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.Response{Code: 200, Body: []byte(strings.Repeat("x", body))}), nil
	})
	var names []string
	if err == nil {
		names, err = cl.Keys(ctx, prefix+":*").Result()
	}
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("there are %d records", len(names))
	}
	if err != nil {
		end()
		return nil, "", nil, err
	}
	return sc, names[0], end, nil
}

func mustNotRun(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
	return redisidem.Outcome{}, errors.New("a finished request was run again")
}

// copies measures replays from cached copies in the process, on one core.
func (m *measurement) copies(ctx context.Context) error {
	sc, _, end, err := m.finish(ctx, 4, "figure4a", func(c *redisidem.Config) { c.CacheBytes, c.CacheLife = 64<<20, time.Hour })
	if err != nil {
		return err
	}
	defer end()
	again := func() error {
		key, err := sc.Do(ctx, "finished", request, mustNotRun)
		if err == nil && (!key.Replayed() || len(key.Response.Body) != body) {
			err = errors.New("the replay is another one")
		}
		return err
	}
	// The service drops copies made before it listened for deletions.
	time.Sleep(200 * time.Millisecond)
	if err := again(); err != nil {
		return err
	}
	m.plan.Step("replays from copies")
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var rates, allocations []float64
	for range m.plan.Repetitions {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := 0
		began := time.Now()
		for time.Since(began) < m.plan.Duration {
			for range 1000 {
				if err := again(); err != nil {
					return err
				}
			}
			n += 1000
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		rates = append(rates, float64(n)/took.Seconds()/1e6)
		// Rounded to hundredths: over millions of replays the runtime itself allocates a few times.
		allocations = append(allocations, math.Round(100*float64(after.Mallocs-before.Mallocs)/float64(n))/100)
	}
	m.add(4, "replays from copies, one core", result.SpreadOf(rates), 1, false, "million/s")
	m.add(4, "... allocations of each", result.SpreadOf(allocations), 1, true, "")
	return nil
}

// store measures replays through InitializeRequest against HGETALL of the same record.
func (m *measurement) store(ctx context.Context) error {
	const callers = 64
	sc, record, end, err := m.finish(ctx, callers, "figure4b", func(*redisidem.Config) {})
	if err != nil {
		return err
	}
	defer end()
	cl, err := client(ctx, m.near, callers)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is in flight
	initialize := driven(callers, func(ctx context.Context, _ int, _ uint64) (time.Duration, error) {
		key, err := sc.InitializeRequest(ctx, "finished", request)
		if err == nil && (!key.Replayed() || len(key.Response.Body) != body) {
			err = errors.New("the replay is another one")
		}
		return 0, err
	})
	read := driven(callers, func(ctx context.Context, _ int, _ uint64) (time.Duration, error) {
		fields, err := cl.HGetAll(ctx, record).Result()
		if err == nil && len(fields["response_body"]) != body {
			err = errors.New("the record is another one")
		}
		return 0, err
	})
	samples, err := m.turns(ctx, "replays from the store", nil, initialize, read)
	if err != nil {
		return err
	}
	m.add(4, "replays from the store, 64 callers, against HGETALL", ratio(samples[0], samples[1]), 0.85, false, "x")
	return m.near.Empty(ctx, "figure")
}

// handOver measures figure 5.
func (m *measurement) handOver(ctx context.Context) error {
	const callers = 8
	s, ok := scenario.ByName("handover")
	if !ok {
		return fmt.Errorf("scenario handover does not exist")
	}
	k, ok := contender.ByName("redisidem-wait")
	if !ok {
		return fmt.Errorf("contender redisidem-wait does not exist")
	}
	g, err := k.Open(ctx, m.far.Link(callers), "figure5")
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }() // nothing is in flight
	op, _, err := s.Prepare(ctx, scenario.Subject{Contender: g, Kind: k, Callers: 1, Body: body})
	if err != nil {
		return err
	}
	cl, err := client(ctx, m.far, callers)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is in flight
	ping := func(ctx context.Context, _ int, _ uint64) (time.Duration, error) { return 0, cl.Ping(ctx).Err() }
	m.plan.Step("hand-over to a waiter")
	var ratios []float64
	next := uint64(0)
	for i := range m.plan.Repetitions + 1 {
		trip, err := load.Run(ctx, load.Plan{Callers: 1, Duration: m.plan.Duration / 2}, ping)
		if err != nil {
			return err
		}
		over, err := load.Run(ctx, load.Plan{Callers: 1, Duration: 3 * m.plan.Duration, First: next}, op)
		if err != nil {
			return err
		}
		next = over.Next
		if i > 0 {
			ratios = append(ratios, over.Sample.Latency.P99/trip.Sample.Latency.P50)
		}
	}
	m.add(5, "2 ms of latency: p99 from one caller's answer to its waiter's", result.SpreadOf(ratios), 2, true, "round trips")
	return m.far.Empty(ctx, "figure")
}
