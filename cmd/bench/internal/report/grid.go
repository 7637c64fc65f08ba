package report

import (
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// grid is the table of all numbers of a scenario.
type grid struct {
	Head []heading
	Rows []gridRow
}

type heading struct{ Name, Unit string }

type gridRow struct {
	look
	Title string
	Cells []string
	Error string
}

// column is a number of a point, as text. The text is empty if the number is not known.
type column struct {
	heading
	of func(*result.Point) string
}

func known(f float64) string {
	if f == 0 {
		return ""
	}
	return number(f)
}

// counted returns a number that comes from counting the connections. Zero is a number, too, if they
// were counted.
func counted(p *result.Point, f float64) string {
	if !p.Cost.Counted(f) {
		return ""
	}
	return number(f)
}

func latency(which func(result.Latency) float64) func(*result.Point) string {
	return func(p *result.Point) string { return micros(p.Latency(which).Median) }
}

// loads are the columns that describe the load.
var loads = []column{
	{heading{"callers", ""}, func(p *result.Point) string { return count(float64(p.Callers)) }},
	{heading{"response", ""}, func(p *result.Point) string {
		if p.BodyBytes == 0 {
			return ""
		}
		return size(float64(p.BodyBytes))
	}},
	{heading{"records", "on the server"}, func(p *result.Point) string { return known(float64(p.Records)) }},
	{heading{"offered", "per second"}, func(p *result.Point) string { return known(p.Rate) }},
}

// speeds is the number of findings about throughput.
const speeds = 3

// findings are the columns of results, throughput first.
var findings = []column{
	{heading{"operations", "per second"}, func(p *result.Point) string { return count(p.Throughput().Median) }},
	{heading{"spread", ""}, func(p *result.Point) string { return around(p.Throughput()) }},
	{heading{"ratio", "low to high"}, func(p *result.Point) string {
		switch {
		case p.Ratio != nil:
			return times(p.Ratio.Median) + " (" + number2(p.Ratio.Low) + " to " + number2(p.Ratio.High) + ")"
		case p.Baseline:
			return "baseline"
		}
		return ""
	}},
	{heading{"p50", ""}, latency(func(l result.Latency) float64 { return l.P50 })},
	{heading{"p90", ""}, latency(func(l result.Latency) float64 { return l.P90 })},
	{heading{"p99", ""}, latency(func(l result.Latency) float64 { return l.P99 })},
	{heading{"p99.9", ""}, latency(func(l result.Latency) float64 { return l.P999 })},
	{heading{"longest", ""}, latency(func(l result.Latency) float64 { return l.Max })},
	{heading{"round trips", "per operation"}, func(p *result.Point) string { return counted(p, p.Cost.RoundTrips) }},
	{heading{"server in", "B per operation"}, func(p *result.Point) string { return counted(p, p.Cost.BytesIn) }},
	{heading{"server out", "B per operation"}, func(p *result.Point) string { return counted(p, p.Cost.BytesOut) }},
	{heading{"server time", "µs per operation"}, func(p *result.Point) string { return known(p.Cost.ServerCPU) }},
	{heading{"client time", "µs per operation"}, func(p *result.Point) string { return known(p.Cost.ClientCPU) }},
	{heading{"allocations", "per operation"}, func(p *result.Point) string { return known(p.Cost.Allocations) }},
	{heading{"allocated", "B per operation"}, func(p *result.Point) string { return known(p.Cost.AllocBytes) }},
	{heading{"memory", "B per record"}, func(p *result.Point) string { return known(p.Cost.RecordMemory) }},
}

// newGrid returns the table of a scenario. It leaves out columns without information.
func newGrid(s *result.Scenario, cast map[string]look) grid {
	var g grid
	g.Rows = make([]gridRow, len(s.Points))
	for i := range s.Points {
		p := &s.Points[i]
		g.Rows[i] = gridRow{look: cast[p.Contender], Title: p.Title, Error: p.Error}
	}
	shown := findings
	if s.Timed {
		shown = findings[speeds:]
	}
	for i, c := range append(loads[:len(loads):len(loads)], shown...) {
		cells := make([]string, len(s.Points))
		some := false
		for j := range s.Points {
			p := &s.Points[j]
			if i < len(loads) || p.Error == "" && len(p.Samples) > 0 {
				cells[j] = c.of(p)
				some = some || cells[j] != ""
			}
		}
		if !some {
			continue
		}
		g.Head = append(g.Head, c.heading)
		for j, cell := range cells {
			if cell == "" {
				cell = "–"
			}
			g.Rows[j].Cells = append(g.Rows[j].Cells, cell)
		}
	}
	return g
}
