package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	lineHeight = 300
	lineLeft   = 66
	lineTop    = 26
)

// line is one contender in a line chart.
type line struct {
	look
	Path  string
	Marks []mark
	Bars  []span
}

// span is the range of a value.
type span struct{ X, Low, High float64 }

// measure is the number of each point that a line chart shows.
type measure struct {
	title, unit string
	of          func(*result.Point) result.Spread
	tick, text  func(float64) string
	log         bool
	throughput  bool // meaningless if only a part of the operation is timed
}

// lines returns a chart of a number along a dimension of the load, or nil if the number is not
// known.
func lines(m measure, f family, cast map[string]look) *chart {
	var xs []float64
	low, high := math.Inf(1), 0.0
	series := make(map[string][]*result.Point)
	var names []string
	for _, p := range f.points {
		v := m.of(p)
		if v.Median <= 0 {
			continue
		}
		low, high = min(low, v.Low), max(high, v.High)
		xs = append(xs, f.along.of(p))
		if series[p.Contender] == nil {
			names = append(names, p.Contender)
		}
		series[p.Contender] = append(series[p.Contender], p)
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	if len(xs) < 2 {
		return nil
	}
	c := &chart{Title: m.title + " against " + f.along.name, Unit: f.along.unit, UnitY: m.unit, Height: lineHeight}
	bottom := float64(lineHeight - footer)
	// Zero is drawn slightly to the left of the smallest value, because a logarithmic axis does not
	// contain it.
	x := scale{low: xs[0], high: xs[len(xs)-1], from: lineLeft + 8, to: width - 18, log: true}
	if xs[0] == 0 {
		x.low = xs[1] / 4
	}
	c.X = newAxis(x, xs, 42, f.along.text)
	y, ticks := fromZero(high, bottom, lineTop)
	if m.log {
		y, ticks = logarithmic(low, high, bottom, lineTop)
		c.UnitY += " (logarithmic)"
	}
	c.Y = newAxis(y, ticks, 0, m.tick)
	c.X.From, c.X.To = lineLeft, width-edge
	for _, name := range names {
		points := series[name]
		slices.SortStableFunc(points, func(a, b *result.Point) int {
			return int(math.Copysign(1, f.along.of(a)-f.along.of(b)))
		})
		l := line{look: cast[name]}
		var path []string
		for _, p := range points {
			v := m.of(p)
			px, py := x.at(f.along.of(p)), y.at(v.Median)
			path = append(path, fmt.Sprintf("%.1f %.1f", px, py))
			tip := fmt.Sprintf("%s, %s %s: %s", p.Title, f.along.name, f.along.text(f.along.of(p)), m.text(v.Median))
			if v.High > v.Low {
				tip += fmt.Sprintf(" (%s to %s)", m.text(v.Low), m.text(v.High))
				l.Bars = append(l.Bars, span{px, y.at(v.Low), y.at(v.High)})
			}
			l.Marks = append(l.Marks, mark{Path: outline(l.shape, px, py, 4.5), Tip: tip})
			c.describe(tip)
		}
		l.Path = "M" + strings.Join(path, "L")
		c.Lines = append(c.Lines, l)
		c.Key = append(c.Key, key{Class: l.Class, Path: outline(l.shape, 14, 8, 4.5), Text: points[0].Title, Dashed: true})
	}
	// Draw this library's lines last, so that they lie on top.
	slices.SortStableFunc(c.Lines, func(a, b line) int {
		switch {
		case a.Own == b.Own:
			return 0
		case a.Own:
			return 1
		}
		return -1
	})
	return c
}
