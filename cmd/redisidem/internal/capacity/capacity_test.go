package capacity

import (
	"math"
	"testing"
	"time"
)

func load() *Load {
	return &Load{
		Rate: 100_000, Stages: 1, Retention: time.Hour, Response: 500, Work: 100 * time.Millisecond,
		Lease: 10 * time.Second, RoundTrip: 500 * time.Microsecond, Callers: 256, Replicas: 1,
	}
}

func server() *Server { return &Server{Busy: 0.6, Memory: 16 << 30, Network: 5e9 / 8} }

func TestEachBoundDecides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Load)
		bound  func(*Need) float64
	}{
		"Time":    {func(l *Load) { l.Retention, l.Response = time.Minute, 100 }, func(n *Need) float64 { return n.ByTime }},
		"Memory":  {func(l *Load) { l.Retention = 7 * 24 * time.Hour }, func(n *Need) float64 { return n.ByMemory }},
		"Network": {func(l *Load) { l.Retention, l.Response = time.Second, 1<<20 }, func(n *Need) float64 { return n.ByNetwork }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := load()
			c.change(l)
			n := Of(l, server())
			if bound := c.bound(&n); n.Masters != int(math.Ceil(bound)) || bound != max(n.ByTime, n.ByMemory, n.ByNetwork) {
				t.Errorf("%d masters, %.2f by time, %.2f by memory, %.2f by network", n.Masters, n.ByTime, n.ByMemory, n.ByNetwork)
			}
		})
	}
}

func TestNeedGrowsWithItsCause(t *testing.T) {
	t.Parallel()
	before := Of(load(), server())
	for name, c := range map[string]struct {
		change func(*Load)
		need   func(*Need) float64
		factor float64
	}{
		"Rate":      {func(l *Load) { l.Rate *= 2 }, func(n *Need) float64 { return n.ByTime }, 2},
		"Retention": {func(l *Load) { l.Retention *= 3 }, func(n *Need) float64 { return n.Memory }, 3},
		"Stages":    {func(l *Load) { l.Stages = 4 }, func(n *Need) float64 { return float64(n.Trips) }, 2.5},
		"RoundTrip": {func(l *Load) { l.RoundTrip *= 10 }, func(n *Need) float64 { return float64(n.Added) }, 10},
		// 100 ms of work and two round trips of 0.5 ms, against 201.
		"Work":     {func(l *Load) { l.Work *= 2 }, func(n *Need) float64 { return n.InFlight }, 201.0 / 101},
		"Callers":  {func(l *Load) { l.Callers = 1 }, func(n *Need) float64 { return float64(n.Processes) }, 10_100.0 / 40},
		"Replicas": {func(l *Load) { l.Replicas = 0 }, func(n *Need) float64 { return n.Sent }, (before.Sent - before.Received) / before.Sent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := load()
			c.change(l)
			after := Of(l, server())
			if got := c.need(&after) / c.need(&before); math.Abs(got-c.factor) > 1e-9 {
				t.Errorf("it grows to %.4f of before, want %.4f", got, c.factor)
			}
		})
	}
}

func TestLongWorkRenewsItsLease(t *testing.T) {
	t.Parallel()
	l := load()
	if n := Of(l, server()); n.Renewals != 0 {
		t.Errorf("%.0f renewals per second of leases that end before the first", n.Renewals)
	}
	l.Work = time.Minute
	if n := Of(l, server()); math.Abs(n.Renewals-n.InFlight*3/10) > 1e-6*n.Renewals {
		t.Errorf("%.0f renewals per second for %.0f leases of 10 s", n.Renewals, n.InFlight)
	}
	l.Stages = 60 // each commit renews the lease
	if n := Of(l, server()); n.Renewals != 0 {
		t.Errorf("%.0f renewals per second of stages of a second", n.Renewals)
	}
}

func TestReplaysAddToTheServersWork(t *testing.T) {
	t.Parallel()
	before, l := Of(load(), server()), load()
	l.Replays = 1_000_000
	after := Of(l, server())
	if after.ByTime <= before.ByTime || after.Sent <= before.Sent+float64(l.Replays)*500 || after.Memory != before.Memory {
		t.Errorf("a million replays per second change the need from %+v to %+v", before, after)
	}
}

func TestMemoryOfARecordBetweenTheMeasuredSizes(t *testing.T) {
	t.Parallel()
	for _, m := range memory {
		if got := recordBytes(int(m.response)); got != m.record {
			t.Errorf("a record with a response of %.0f B takes %.0f B, measured were %.0f B", m.response, got, m.record)
		}
	}
	if got := recordBytes(0); got != memory[0].record {
		t.Errorf("a record without a response takes %.0f B", got)
	}
	last, before := memory[len(memory)-1], memory[len(memory)-2]
	size := 2*last.response - before.response
	if got, want := recordBytes(int(size)), 2*last.record-before.record; got != want {
		t.Errorf("a record with a response of %.0f B takes %.0f B, want %.0f B", size, got, want)
	}
}

func TestEveryOperationHasACost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]cost{"first": first, "stage": stage, "replay": replay} {
		if c.server <= 0 || c.client <= 0 || c.received <= 0 || c.sent <= 0 {
			t.Errorf("%s costs %+v", name, c)
		}
	}
}
