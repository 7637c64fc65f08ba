package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	rowHeight = 43 // of one contender: its name, and its drawing below
	rowMiddle = 28 // of the drawing
	edge      = 8
	footer    = 44 // of the axis
)

// row is one contender in a chart: its name, its value, and bars and marks along one axis.
type row struct {
	look
	Label, Value, Tip string
	Y, Middle         float64
	Bar               float64 // length; 0: no bar
	Whisker           bool
	Low, High         float64
	Marks             []mark
}

// rowChart returns a chart with space for a number of rows.
func rowChart(title, unit string, rows int) *chart {
	return &chart{Title: title, Unit: unit, Height: float64(rows*rowHeight + footer + 6)}
}

func newRow(i int, p *result.Point, l look) row {
	y := float64(i*rowHeight + 6)
	return row{look: l, Label: p.Title, Y: y + 15, Middle: y + rowMiddle}
}

// best returns the points with the best value first. The best is the highest or the lowest.
func best(points []*result.Point, highest bool, value func(*result.Point) float64) []*result.Point {
	return slices.SortedStableFunc(slices.Values(points), func(a, b *result.Point) int {
		if highest {
			a, b = b, a
		}
		return cmp.Compare(value(a), value(b))
	})
}

// bars returns a chart with one value per contender, and its spread. The best comes first, which is
// the highest or the lowest.
func bars(title, unit string, points []*result.Point, cast map[string]look, high bool, value func(*result.Point) result.Spread,
	text func(float64) string,
) *chart {
	highest := 0.0
	for _, p := range points {
		highest = max(highest, value(p).High)
	}
	if highest == 0 {
		return nil
	}
	points = best(points, high, func(p *result.Point) float64 { return value(p).Median })
	c := rowChart(title, unit, len(points))
	s, ticks := fromZero(highest, edge, width-edge)
	c.X = newAxis(s, ticks, 60, short)
	for i, p := range points {
		v := value(p)
		r := newRow(i, p, cast[p.Contender])
		r.Value, r.Bar = text(v.Median), tenth(s.at(v.Median)-edge)
		r.Tip = fmt.Sprintf("%s: %s", p.Title, text(v.Median))
		if v.High > v.Low {
			r.Whisker, r.Low, r.High = true, s.at(v.Low), s.at(v.High)
			r.Value += " " + around(v)
			r.Tip += fmt.Sprintf(" (%s to %s)", text(v.Low), text(v.High))
		}
		c.describe(r.Tip)
		c.Rows = append(c.Rows, r)
	}
	return c
}

// ratios returns a chart of throughput against the baseline's.
func ratios(points []*result.Point, cast map[string]look) *chart {
	low, high := 1.0, 1.0
	var base *result.Point
	var shown []*result.Point
	for _, p := range points {
		switch {
		case p.Baseline:
			base = p
		case p.Ratio != nil && p.Ratio.Low > 0:
			low, high = min(low, p.Ratio.Low), max(high, p.Ratio.High)
			shown = append(shown, p)
		}
	}
	if base == nil || len(shown) == 0 {
		return nil
	}
	shown = best(shown, true, func(p *result.Point) float64 { return p.Ratio.Median })
	c := rowChart("Throughput against "+base.Title, "times as much as "+base.Title+" (logarithmic)", len(shown))
	c.Note = "Of samples of the same repetition: the middle, with the lowest and the highest."
	s, ticks := logarithmic(low, high, edge, width-edge)
	c.X = newAxis(s, ticks, 44, func(f float64) string { return short(f) + thin + "×" })
	c.Refer = s.at(1)
	for i, p := range shown {
		r := newRow(i, p, cast[p.Contender])
		r.Value = times(p.Ratio.Median)
		r.Tip = fmt.Sprintf("%s: %s (%s to %s)", p.Title, times(p.Ratio.Median), times(p.Ratio.Low), times(p.Ratio.High))
		r.Whisker, r.Low, r.High = true, s.at(p.Ratio.Low), s.at(p.Ratio.High)
		r.Marks = []mark{{Class: "solid", Path: outline(0, s.at(p.Ratio.Median), r.Middle, 6), Tip: r.Tip}}
		c.describe(r.Tip)
		c.Rows = append(c.Rows, r)
	}
	return c
}

// percentiles are the percentiles of latency in the charts.
var percentiles = []struct {
	name  string
	of    func(result.Latency) float64
	class string
}{
	{"p50", func(l result.Latency) float64 { return l.P50 }, "solid"},
	{"p90", func(l result.Latency) float64 { return l.P90 }, "hollow"},
	{"p99", func(l result.Latency) float64 { return l.P99 }, "solid"},
	{"p99.9", func(l result.Latency) float64 { return l.P999 }, "hollow"},
}

// latencies returns a chart of the percentiles of each contender's latency.
func latencies(points []*result.Point, cast map[string]look) *chart {
	low, high := math.Inf(1), 0.0
	for _, p := range points {
		for _, q := range percentiles {
			if v := p.Latency(q.of).Median; v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		return nil
	}
	points = best(points, false, func(p *result.Point) float64 { return p.Latency(percentiles[2].of).Median })
	c := rowChart("Latency", "latency (logarithmic)", len(points))
	s, ticks := logarithmic(low, high, edge+4, width-edge-4)
	c.X = newAxis(s, ticks, 50, tickMicros)
	for i, p := range points {
		r := newRow(i, p, cast[p.Contender])
		said := p.Title + ":"
		r.Whisker, r.Low, r.High = true, math.Inf(1), 0
		for j, q := range percentiles {
			v := p.Latency(q.of).Median
			tip := q.name + " " + micros(v)
			at := s.at(max(v, s.low))
			r.Marks = append(r.Marks, mark{Class: q.class, Path: outline(j, at, r.Middle, 5), Tip: p.Title + ": " + tip})
			r.Low, r.High = min(r.Low, at), max(r.High, at)
			said += " " + tip
		}
		r.Value = "p99 " + micros(p.Latency(percentiles[2].of).Median)
		r.Tip = said
		c.describe(said)
		c.Rows = append(c.Rows, r)
	}
	for j, q := range percentiles {
		c.Key = append(c.Key, key{Class: "neutral " + q.class, Path: outline(j, 8, 8, 5), Text: q.name})
	}
	return c
}

// Top returns where the row begins.
func (r row) Top() float64 { return r.Y - 15 }

// BarTop returns where its bar begins.
func (r row) BarTop() float64 { return r.Middle - 6 }

// WhiskerTop returns where the ends of its whisker begin.
func (r row) WhiskerTop() float64 { return r.Middle - 4 }

// Loose reports whether the whisker only connects marks.
func (r row) Loose() bool { return len(r.Marks) > 1 }
