package figure

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/scenario"
)

// rivals are the hand-written contenders on other Go libraries, each on its own client.
var rivals = []string{"redislock", "redsync", "rueidislock", "gofiber"}

// lifecycle measures figure 1.
func (m *measurement) lifecycle(ctx context.Context) error {
	const callers = 256
	s, ok := scenario.ByName("lifecycle")
	if !ok {
		return fmt.Errorf("scenario lifecycle does not exist")
	}
	var all []contestant
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for _, kind := range append([]string{"redisidem-auto", "redislock-auto"}, rivals...) {
		c, end, err := contenderOf(ctx, m.near, kind, s, callers, "figure1-")
		if err != nil {
			return err
		}
		ends = append(ends, end)
		all = append(all, c)
	}
	t, cl, addr, err := template(ctx, m.near, 4)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is in flight
	all = append(all, func(ctx context.Context, d time.Duration) (float64, error) {
		run, err := limit.Lifecycles(ctx, addr, t, d, 0)
		return float64(run.Count) / run.Elapsed.Seconds(), err
	})
	samples, err := m.turns(ctx, "first executions, 256 callers", m.near, all...)
	if err != nil {
		return err
	}
	ours, byHand, others, bare := samples[0], samples[1], samples[2:len(samples)-1], samples[len(samples)-1]
	fastest, name := others[0], rivals[0]
	for i, o := range others {
		if result.SpreadOf(o).Median > result.SpreadOf(fastest).Median {
			fastest, name = o, rivals[i]
		}
	}
	m.add(1, "first executions, 256 callers, against redislock by hand", ratio(ours, others[0]), 3.5, false, "x")
	m.add(1, "... against the fastest rival ("+name+")", ratio(ours, fastest), 1.75, false, "x")
	m.add(1, "... against redislock by hand, auto-pipelined", ratio(ours, byHand), 1.4, false, "x")
	m.add(1, "... against the server's own limit", ratio(ours, bare), 0.85, false, "x")
	return m.near.Empty(ctx, "figure")
}

// oneCaller measures figure 2.
func (m *measurement) oneCaller(ctx context.Context) error {
	s, ok := scenario.ByName("lifecycle")
	if !ok {
		return fmt.Errorf("scenario lifecycle does not exist")
	}
	plain, end, err := contenderOf(ctx, m.near, "redisidem", s, 1, "figure2-")
	if err != nil {
		return err
	}
	defer end()
	t, cl, _, err := template(ctx, m.near, 4)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is in flight
	samples, err := m.turns(ctx, "one caller", m.near, plain, driven(1, limit.Raw(cl, t, "r")))
	if err != nil {
		return err
	}
	m.add(2, "one caller: time against the same commands by themselves", ratio(samples[1], samples[0]), 1.15, true, "x")
	auto, endAuto, err := contenderOf(ctx, m.near, "redisidem-auto", s, 1, "figure2b-")
	if err != nil {
		return err
	}
	defer endAuto()
	if samples, err = m.turns(ctx, "one caller, auto-pipelined", m.near, plain, auto); err != nil {
		return err
	}
	m.add(2, "... auto-pipelined: time against the plain client", ratio(samples[0], samples[1]), 1.1, true, "x")
	return m.near.Empty(ctx, "figure")
}

// slowNetwork measures figure 3.
func (m *measurement) slowNetwork(ctx context.Context) error {
	const callers = 64
	s, ok := scenario.ByName("lifecycle")
	if !ok {
		return fmt.Errorf("scenario lifecycle does not exist")
	}
	auto, end, err := contenderOf(ctx, m.far, "redisidem-auto", s, callers, "figure3-")
	if err != nil {
		return err
	}
	defer end()
	cl, err := client(ctx, m.far, callers)
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is in flight
	twice := driven(callers, func(ctx context.Context, _ int, _ uint64) (time.Duration, error) {
		for range 2 {
			if err := cl.Ping(ctx).Err(); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	samples, err := m.turns(ctx, "slow network", m.far, auto, twice)
	if err != nil {
		return err
	}
	m.add(3, "2 ms of latency, 64 callers: time against two bare round trips", ratio(samples[1], samples[0]), 1.3, true, "x")
	return m.far.Empty(ctx, "figure")
}

// middleware measures figure 7.
func (m *measurement) middleware(ctx context.Context) error {
	const callers = 64
	s, ok := scenario.ByName("http")
	if !ok {
		return fmt.Errorf("scenario http does not exist")
	}
	var all []contestant
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for _, kind := range []string{"http-redisidem", "http-redisidem-auto", "http-floor", "http-floor-auto"} {
		c, end, err := contenderOf(ctx, m.near, kind, s, callers, "figure7-")
		if err != nil {
			return err
		}
		ends = append(ends, end)
		all = append(all, c)
	}
	samples, err := m.turns(ctx, "HTTP middleware", m.near, all...)
	if err != nil {
		return err
	}
	m.add(7, "HTTP middleware against two bare commands over the same server", ratio(samples[0], samples[2]), 0.8, false, "x")
	m.add(7, "... both auto-pipelined", ratio(samples[1], samples[3]), 0.65, false, "x")
	return m.near.Empty(ctx, "figure")
}
