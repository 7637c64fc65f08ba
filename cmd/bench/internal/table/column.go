package table

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// column is a number of each point.
type column struct {
	name string
	text func(*result.Point) string
}

// part is a part of the load, such as the number of callers. Its text stands alone. Its number
// belongs in a column.
type part struct {
	name         string
	text, number func(*result.Point) string
}

var parts = []part{
	{
		"callers", func(p *result.Point) string {
			if p.Callers == 1 {
				return "1 caller"
			}
			return strconv.Itoa(p.Callers) + " callers"
		}, func(p *result.Point) string { return strconv.Itoa(p.Callers) },
	},
	{
		"body", func(p *result.Point) string {
			if p.BodyBytes == 0 {
				return ""
			}
			return strconv.Itoa(p.BodyBytes) + " B responses"
		}, func(p *result.Point) string { return known(float64(p.BodyBytes), "%.0f") },
	},
	{
		"records", func(p *result.Point) string {
			if p.Records == 0 {
				return ""
			}
			return Count(float64(p.Records)) + " records before"
		}, func(p *result.Point) string { return known(float64(p.Records), "%.0f") },
	},
	{
		"due/s", func(p *result.Point) string {
			if p.Rate == 0 {
				return ""
			}
			return fmt.Sprintf("open loop, %g due per second", p.Rate)
		}, func(p *result.Point) string { return known(p.Rate, "%g") },
	},
}

// loads returns a text for the parts that are the same at all points, and columns for the others.
func loads(s *result.Scenario) (shared string, columns []column) {
	var texts []string
	for _, part := range parts {
		same := true
		for i := range s.Points {
			same = same && part.text(&s.Points[i]) == part.text(&s.Points[0])
		}
		switch {
		case !same:
			columns = append(columns, column{part.name, part.number})
		case len(s.Points) > 0 && part.text(&s.Points[0]) != "":
			texts = append(texts, part.text(&s.Points[0]))
		}
	}
	return strings.Join(texts, ", "), columns
}

// load names the load at a point.
func load(p *result.Point) string {
	var texts []string
	for _, part := range parts {
		if text := part.text(p); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
}

// speeds returns the columns about time. It leaves out throughput where it is meaningless.
func speeds(timed bool) []column {
	latency := func(which func(result.Latency) float64) func(*result.Point) string {
		return func(p *result.Point) string { return Micros(p.Latency(which).Median) }
	}
	columns := []column{
		{"p50", latency(func(l result.Latency) float64 { return l.P50 })},
		{"p99", latency(func(l result.Latency) float64 { return l.P99 })},
		{"p99.9", latency(func(l result.Latency) float64 { return l.P999 })},
	}
	if timed {
		return columns
	}
	return append([]column{
		{"ops/s", func(p *result.Point) string { return Count(p.Throughput().Median) }},
		{"±", func(p *result.Point) string { return percent(p.Throughput()) }},
		{"ratio", ratio},
	}, columns...)
}

func ratio(p *result.Point) string {
	switch {
	case p.Ratio != nil:
		return fmt.Sprintf("%.2f (%.2f-%.2f)", p.Ratio.Median, p.Ratio.Low, p.Ratio.High)
	case p.Baseline && p.Rate == 0:
		return "1"
	}
	return "-"
}

// costs are the columns about the cost of an operation. Tables leave out columns without a known
// number.
var costs = []struct {
	name, format string
	value        func(*result.Cost) float64
	counted      bool // by counting the connections
}{
	{"trips", "%.1f", func(c *result.Cost) float64 { return c.RoundTrips }, true},
	{"B in", "%.0f", func(c *result.Cost) float64 { return c.BytesIn }, true},
	{"B out", "%.0f", func(c *result.Cost) float64 { return c.BytesOut }, true},
	{"server µs", "%.1f", func(c *result.Cost) float64 { return c.ServerCPU }, false},
	{"client µs", "%.1f", func(c *result.Cost) float64 { return c.ClientCPU }, false},
	{"allocs", "%.0f", func(c *result.Cost) float64 { return c.Allocations }, false},
	{"B/record", "%.0f", func(c *result.Cost) float64 { return c.RecordMemory }, false},
}
