package report

import (
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// load is the load of a point.
type load struct {
	callers, body int
	records       int64
	rate          float64
}

func loadOf(p *result.Point) load { return load{p.Callers, p.BodyBytes, p.Records, p.Rate} }

func (l load) String() string {
	callers := " callers"
	if l.callers == 1 {
		callers = " caller"
	}
	parts := []string{count(float64(l.callers)) + callers}
	if l.body > 0 {
		parts = append(parts, "responses of "+size(float64(l.body)))
	}
	if l.records > 0 {
		parts = append(parts, count(float64(l.records))+" records")
	}
	if l.rate > 0 {
		parts = append(parts, count(l.rate)+" operations offered per second")
	}
	return strings.Join(parts, ", ")
}

// measured returns the points of a scenario that have a measurement.
func measured(s *result.Scenario) []*result.Point {
	var points []*result.Point
	for i := range s.Points {
		if p := &s.Points[i]; p.Error == "" && len(p.Samples) > 0 {
			points = append(points, p)
		}
	}
	return points
}

// chosen returns the load that is shown first, and its points. It is the load with most contenders,
// then with most callers.
func chosen(points []*result.Point) (load, []*result.Point) {
	byLoad := make(map[load][]*result.Point)
	for _, p := range points {
		byLoad[loadOf(p)] = append(byLoad[loadOf(p)], p)
	}
	var best load
	for _, p := range points { // in the order of the run
		l := loadOf(p)
		n, m := len(byLoad[l]), len(byLoad[best])
		if n > m || n == m && l.callers > best.callers {
			best = l
		}
	}
	return best, byLoad[best]
}

// dimension is a part of the load that varies.
type dimension struct {
	name, unit string
	of         func(*result.Point) float64
	text       func(float64) string
	rest       func(load) load // the load without this dimension
}

var dimensions = []dimension{
	{
		"callers", "callers", func(p *result.Point) float64 { return float64(p.Callers) }, count,
		func(l load) load { l.callers = 0; return l },
	},
	{
		"offered rate", "operations offered per second", func(p *result.Point) float64 { return p.Rate }, count,
		func(l load) load { l.rate = 0; return l },
	},
	{
		"records", "records on the server", func(p *result.Point) float64 { return float64(p.Records) }, magnitude,
		func(l load) load { l.records = 0; return l },
	},
	{
		"body size", "size of the response", func(p *result.Point) float64 { return float64(p.BodyBytes) }, size,
		func(l load) load { l.body = 0; return l },
	},
}

// magnitude formats a large number in few letters.
func magnitude(f float64) string {
	if f == 0 {
		return "none"
	}
	if f >= 1e6 {
		return short(f/1e6) + thin + "M"
	}
	return count(f)
}

// family holds points that differ only in the contender and in one dimension of the load.
type family struct {
	along  dimension
	same   load
	points []*result.Point
}

// familyOf returns the largest family along a dimension, or false if the dimension does not vary.
func familyOf(points []*result.Point, along dimension) (family, bool) {
	values := make(map[load]map[float64]bool)
	var best load
	for _, p := range points {
		rest := along.rest(loadOf(p))
		if values[rest] == nil {
			values[rest] = make(map[float64]bool)
		}
		values[rest][along.of(p)] = true
		if len(values[rest]) > len(values[best]) {
			best = rest
		}
	}
	if len(values[best]) < 2 {
		return family{}, false
	}
	f := family{along: along, same: best}
	for _, p := range points {
		if along.rest(loadOf(p)) == best {
			f.points = append(f.points, p)
		}
	}
	return f, true
}
