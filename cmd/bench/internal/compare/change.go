package compare

import (
	"slices"

	"github.com/aclements/go-moremath/stats"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

const (
	alpha    = 0.05 // how likely one difference among all of them may be chance and still count
	harmless = 0.05 // how much worse this library may be
)

// change is what became of a point.
type change struct {
	before, after float64 // medians
	na, nb        int     // samples
	part          float64 // of before: -0.1 is 10 % less
	p             float64 // that the difference is chance, with regard to how many others were looked at
	significant   bool
	worse         bool // significantly, and by more than is harmless
	tooFew        bool // samples to tell
}

// changes compares the points of pairs with the Mann-Whitney U test, which assumes nothing about how samples are
// distributed. Of many points some differ by chance, so the p-values are corrected for their number: this library's, whose
// losses count, by themselves.
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

// decide takes the corrected p-value of one of so many points.
func (c *change) decide(p float64, points int, timed bool) {
	c.p, c.significant = p, p < alpha
	c.tooFew = !c.significant && float64(points)*clearest(c.na, c.nb) >= alpha
	loss := -c.part
	if timed {
		loss = c.part
	}
	c.worse = c.significant && loss > harmless
}

// holm corrects p-values for their number with Holm's method: the chance that one or more of those below alpha are there by
// chance is below alpha.
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

// chance returns how likely two samples differ so much, or more, by chance.
func chance(a, b []float64) float64 {
	r, err := stats.MannWhitneyUTest(slices.Clone(a), slices.Clone(b), stats.LocationDiffers)
	if err != nil {
		return 1 // all values are equal, or there are none
	}
	return r.P
}

// clearest returns the p-value of samples of these sizes that do not overlap: there is none below.
func clearest(na, nb int) float64 {
	ways := 1.0 // to choose na of na+nb
	for i := 1; i <= na; i++ {
		ways = ways * float64(nb+i) / float64(i)
	}
	return min(1, 2/ways)
}

// enough returns how many samples of each run it takes before one of so many points can differ significantly.
func enough(points int) int {
	n := 1
	for float64(points)*clearest(n, n) >= alpha {
		n++
	}
	return n
}
