package figure

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

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
	m.add(6, "server time of a lifecycle", result.SpreadOf(inSets), 10, true, "SETs")
	m.add(6, fmt.Sprintf("... with %d thousand records against %d thousand", m.plan.Records/1000, few/1000),
		result.SpreadOf(growth), 1.1, true, "x")
	return m.recordMemory(ctx, small)
}

// recordMemory measures what a finished record takes on a server, which it empties: with the
// server's own settings, and with those that keep the record in its compact encoding.
func (m *measurement) recordMemory(ctx context.Context, f *filled) error {
	for _, setting := range []struct {
		value string // "" for the server's own
		title string
		bound float64
	}{
		{"", "bytes of a finished record, 70 of them of its request and 200 of its response", 1200},
		{"512", "... with hash-max-listpack-value 512", 1200},
	} {
		if setting.value != "" {
			if err := f.client.ConfigSet(ctx, "hash-max-listpack-value", setting.value).Err(); err != nil {
				return err
			}
		}
		if err := f.client.FlushAll(ctx).Err(); err != nil {
			return err
		}
		if _, err := f.lifecycles(ctx, limit.Depth); err != nil {
			return err
		}
		record, err := f.client.RandomKey(ctx).Result() // all keys are records
		if err != nil {
			return err
		}
		// Without SAMPLES 0 the server looks at some fields only.
		bytes, err := f.client.MemoryUsage(ctx, record, 0).Result()
		if err != nil {
			return err
		}
		m.add(6, setting.title, result.SpreadOf([]float64{float64(bytes)}), setting.bound, true, "B")
	}
	return nil
}

// filled is a server that holds the records of finished lifecycles.
type filled struct {
	server   *target.Server
	addr     string
	client   *redis.Client
	template *limit.Template
}

func (m *measurement) filled(ctx context.Context, records int64) (*filled, error) {
	server, err := target.Start(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	t, cl, addr, err := template(ctx, server, 4)
	if err != nil {
		server.Stop()
		return nil, err
	}
	f := &filled{server, addr, cl, t}
	if _, err := f.lifecycles(ctx, records); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *filled) stop() {
	_ = f.client.Close() // nothing is in flight
	f.server.Stop()
}

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
