package compare

import (
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// pair is a point that both runs have measured.
type pair struct {
	scenario *result.Scenario
	a, b     *result.Point
	// baseA and baseB are the points of the baseline under the same load, the divisors of the
	// ratios, or nil without a baseline.
	baseA, baseB *result.Point
}

// lost is a point that only the first run has measured.
type lost struct {
	scenario *result.Scenario
	a        *result.Point
	failed   bool
	why      string
}

// place identifies a point in both runs.
type place struct {
	scenario, contender string
	callers, body       int
	records             int64
	rate                float64
}

func placeOf(s *result.Scenario, p *result.Point) place {
	return place{s.Name, p.Contender, p.Callers, p.BodyBytes, p.Records, p.Rate}
}

// index finds the points of a run.
type index struct {
	points map[place]*result.Point
	bases  map[place]*result.Point // by places without a contender
}

func indexOf(r *result.Run) index {
	x := index{make(map[place]*result.Point), make(map[place]*result.Point)}
	each(r, func(s *result.Scenario, p *result.Point) {
		at := placeOf(s, p)
		x.points[at] = p
		if p.Baseline && measured(p) {
			x.bases[at.ofBaseline()] = p
		}
	})
	return x
}

// ofBaseline is the place without its contender.
func (at place) ofBaseline() place {
	at.contender = ""
	return at
}

// match returns the points that both runs have measured, in the order of the second, and the points
// that only the first run has.
func match(a, b *result.Run) (pairs []pair, gone []lost) {
	before, after := indexOf(a), indexOf(b)
	each(b, func(s *result.Scenario, p *result.Point) {
		at := placeOf(s, p)
		old := before.points[at]
		if old == nil || !measured(old) || !measured(p) {
			return
		}
		found := pair{scenario: s, a: old, b: p}
		baseA, baseB := before.bases[at.ofBaseline()], after.bases[at.ofBaseline()]
		if baseA != nil && baseB != nil && baseA.Contender == baseB.Contender && baseA != old {
			found.baseA, found.baseB = baseA, baseB
		}
		pairs = append(pairs, found)
	})
	each(a, func(s *result.Scenario, p *result.Point) {
		now := after.points[placeOf(s, p)]
		switch {
		case !measured(p) || now != nil && measured(now):
		case now == nil || now.Error == "":
			gone = append(gone, lost{scenario: s, a: p, why: "is not measured now"})
		case now.Skipped:
			gone = append(gone, lost{scenario: s, a: p, why: "is left out now: " + now.Error})
		default:
			gone = append(gone, lost{scenario: s, a: p, failed: true, why: "FAILED: " + now.Error})
		}
	})
	return pairs, gone
}

// each calls f for every point.
func each(r *result.Run, f func(*result.Scenario, *result.Point)) {
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for j := range s.Points {
			f(s, &s.Points[j])
		}
	}
}

func measured(p *result.Point) bool { return p.Error == "" && len(p.Samples) > 0 }

// timed reports whether latency is the number to compare. Throughput is fixed in an open loop. It
// is meaningless where the latency covers only a part of the operation.
func (p *pair) timed() bool { return p.b.Rate > 0 || p.scenario.Timed }

// paired reports whether there is a baseline to divide by.
func (p *pair) paired() bool { return p.baseA != nil }

// values returns the numbers to compare, for both points and each repetition.
func (p *pair) values() (before, after []float64) {
	return p.of(p.a, p.baseA), p.of(p.b, p.baseB)
}

func (p *pair) of(point, base *result.Point) []float64 {
	value := func(s result.Sample) float64 {
		if p.timed() {
			return s.Latency.P99
		}
		return s.PerSecond
	}
	values := make([]float64, 0, len(point.Samples))
	for i, s := range point.Samples {
		switch {
		case base == nil:
			values = append(values, value(s))
		case i < len(base.Samples) && value(base.Samples[i]) > 0:
			values = append(values, value(s)/value(base.Samples[i]))
		}
	}
	return values
}
