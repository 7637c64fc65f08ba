package compare

import (
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// pair is a point that both runs have.
type pair struct {
	scenario *result.Scenario
	a, b     *result.Point
}

// place is what two points have in common.
type place struct {
	scenario, contender string
	callers, body       int
	records             int64
	rate                float64
}

// match returns the points that both runs have and could measure, in the order of b.
func match(a, b *result.Run) []pair {
	earlier := make(map[place]*result.Point)
	each(a, func(at place, _ *result.Scenario, p *result.Point) { earlier[at] = p })
	var pairs []pair
	each(b, func(at place, s *result.Scenario, p *result.Point) {
		if old := earlier[at]; old != nil {
			pairs = append(pairs, pair{scenario: s, a: old, b: p})
		}
	})
	return pairs
}

// each calls f for every point that was measured.
func each(r *result.Run, f func(place, *result.Scenario, *result.Point)) {
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for j := range s.Points {
			p := &s.Points[j]
			if p.Error == "" && len(p.Samples) > 0 {
				f(place{s.Name, p.Contender, p.Callers, p.BodyBytes, p.Records, p.Rate}, s, p)
			}
		}
	}
}

// open reports whether operations came at a fixed rate: then throughput is given, and latency tells.
func (p pair) open() bool { return p.b.Rate > 0 }

// values returns what is compared of a point, sample by sample.
func (p pair) values(of *result.Point) []float64 {
	values := make([]float64, len(of.Samples))
	for i, s := range of.Samples {
		if p.open() {
			values[i] = s.Latency.P99
		} else {
			values[i] = s.PerSecond
		}
	}
	return values
}
