package compare

import (
	"slices"

	"github.com/aclements/go-moremath/stats"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	alpha      = 0.05 // how likely a difference may be chance and still count
	harmless   = 0.05 // how much worse this library may be
	fewSamples = 4    // of each run: with fewer, no difference is significant
)

// change is what became of a point.
type change struct {
	before, after float64 // medians
	part          float64 // of before: -0.1 is 10 % less
	p             float64 // that the difference is chance
	significant   bool
	worse         bool // significantly, and by more than is harmless
	tooFew        bool // samples to tell
}

// change compares the samples with the Mann-Whitney U test, which assumes nothing about how they are distributed.
func (p pair) change() change {
	before, after := p.values(p.a), p.values(p.b)
	c := change{before: result.SpreadOf(before).Median, after: result.SpreadOf(after).Median, p: chance(before, after)}
	if c.before != 0 {
		c.part = c.after/c.before - 1
	}
	c.tooFew = min(len(before), len(after)) < fewSamples && c.p >= alpha
	c.significant = c.p < alpha
	loss := -c.part
	if p.open() {
		loss = c.part
	}
	c.worse = c.significant && loss > harmless
	return c
}

// chance returns how likely two samples differ so much, or more, by chance.
func chance(a, b []float64) float64 {
	r, err := stats.MannWhitneyUTest(slices.Clone(a), slices.Clone(b), stats.LocationDiffers)
	if err != nil {
		return 1 // all values are equal, or there are none
	}
	return r.P
}
