package compare

import (
	"slices"

	"github.com/aclements/go-moremath/stats"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	alpha    = 0.05 // the highest probability that any of the reported differences is chance
	harmless = 0.05 // the loss up to which this library does not count as worse
)

// change is the difference between the two runs at one point.
type change struct {
	before, after float64 // medians
	na, nb        int     // samples
	part          float64 // relative to before: -0.1 is 10 % less
	p             float64 // of a difference by chance, corrected for the number of points
	significant   bool
	worse         bool // significantly, and by more than harmless
	tooFew        bool // too few samples for a significant difference
}

// changes compares the points of pairs with the Mann-Whitney U test, which assumes nothing about
// the distribution of samples. Among many points some differ by chance, so the p-values are
// corrected for their number. This library's points, which decide the exit status, are corrected
// separately.
func changes(pairs []pair) []change {
	all := make([]change, len(pairs))
	for _, own := range []bool{true, false} {
		var family []int
		var ps []float64
		for i := range pairs {
			if pairs[i].b.Own == own {
				before, after := pairs[i].values()
				all[i] = newChange(before, after)
				family, ps = append(family, i), append(ps, chance(before, after))
			}
		}
		for j, p := range holm(ps) {
			i := family[j]
			all[i].decide(p, len(family), pairs[i].timed())
		}
	}
	return all
}

func newChange(before, after []float64) change {
	c := change{before: result.SpreadOf(before).Median, after: result.SpreadOf(after).Median, na: len(before), nb: len(after)}
	if c.before != 0 {
		c.part = c.after/c.before - 1
	}
	return c
}

// decide sets the fields that depend on the corrected p-value. points is the number of points.
func (c *change) decide(p float64, points int, timed bool) {
	c.p, c.significant = p, p < alpha
	c.tooFew = !c.significant && float64(points)*clearest(c.na, c.nb) >= alpha
	loss := -c.part
	if timed {
		loss = c.part
	}
	c.worse = c.significant && loss > harmless
}

// holm corrects p-values for their number with Holm's method. The probability that at least one
// result below alpha is due to chance is below alpha.
func holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case ps[a] < ps[b]:
			return -1
		case ps[a] > ps[b]:
			return 1
		}
		return 0
	})
	corrected := make([]float64, len(ps))
	highest := 0.0
	for rank, i := range order {
		highest = max(highest, min(1, float64(len(ps)-rank)*ps[i]))
		corrected[i] = highest
	}
	return corrected
}

// chance returns the probability that two samples differ this much, or more, by chance.
func chance(a, b []float64) float64 {
	r, err := stats.MannWhitneyUTest(slices.Clone(a), slices.Clone(b), stats.LocationDiffers)
	if err != nil {
		return 1 // all values are equal, or there are no values
	}
	return r.P
}

// clearest returns the p-value of samples of these sizes that do not overlap. It is the lowest
// possible p-value.
func clearest(na, nb int) float64 {
	ways := 1.0 // number of ways to choose na of na+nb
	for i := 1; i <= na; i++ {
		ways = ways * float64(nb+i) / float64(i)
	}
	return min(1, 2/ways)
}

// enough returns the number of samples per run that a significant difference needs, among this many
// points.
func enough(points int) int {
	n := 1
	for float64(points)*clearest(n, n) >= alpha {
		n++
	}
	return n
}
