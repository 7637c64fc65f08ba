package figure

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/target"
)

// forever is longer than any run with a fixed count can take.
const forever = time.Hour

// few is the number of records at the first measurement of the server's time.
const few = 10_000

// serverTime measures figure 6. It uses servers that no other figure has filled and emptied before.
func (m *measurement) serverTime(ctx context.Context) error {
	m.plan.Step("server time")
	small, err := m.filled(ctx, few)
	if err != nil {
		return err
	}
	defer small.stop()
	m.plan.Step(fmt.Sprintf("server time with %d records", m.plan.Records))
	large, err := m.filled(ctx, m.plan.Records)
	if err != nil {
		return err
	}
	defer large.stop()

	const count = 20_000
	var inSets, growth []float64
	for range m.plan.Repetitions {
		life, err := small.cost(ctx, count, small.lifecycles)
		if err != nil {
			return err
		}
		set, err := small.cost(ctx, count, small.sets)
		if err != nil {
			return err
		}
		big, err := large.cost(ctx, count, large.lifecycles)
		if err != nil {
			return err
		}
		inSets = append(inSets, life/set)
		growth = append(growth, big/life)
	}
	m.add(6, "server time of a lifecycle", result.SpreadOf(inSets), 20, true, "SETs")
	m.add(6, fmt.Sprintf("... with %d thousand records against %d thousand", m.plan.Records/1000, few/1000),
		result.SpreadOf(growth), 1.1, true, "x")
	return nil
}

// filled is a server that holds the records of finished lifecycles.
type filled struct {
	server   *target.Server
	addr     string
	template *limit.Template
}

func (m *measurement) filled(ctx context.Context, records int64) (*filled, error) {
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	t, cl, addr, err := template(ctx, server, 4)
	if err == nil {
		err = cl.Close()
	}
	if err == nil {
		_, err = limit.Lifecycles(ctx, addr, t, forever, records)
	}
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &filled{server, addr, t}, nil
}

func (f *filled) stop() { f.server.Stop() }

func (f *filled) lifecycles(ctx context.Context, count int64) (limit.Run, error) {
	return limit.Lifecycles(ctx, f.addr, f.template, forever, count)
}

func (f *filled) sets(ctx context.Context, count int64) (limit.Run, error) {
	return limit.Sets(ctx, f.addr, forever, count)
}

// cost returns the server's processor time for one operation, in microseconds, from the server's
// statistics. It removes the records that the operations leave.
func (f *filled) cost(ctx context.Context, count int64, run func(context.Context, int64) (limit.Run, error)) (float64, error) {
	before, err := f.server.Stats(ctx)
	if err != nil {
		return 0, err
	}
	done, err := run(ctx, count)
	if err != nil {
		return 0, err
	}
	after, err := f.server.Stats(ctx)
	if err != nil {
		return 0, err
	}
	return (after.CPU - before.CPU) * 1e6 / float64(done.Count), done.Remove(ctx, f.addr, f.template)
}
