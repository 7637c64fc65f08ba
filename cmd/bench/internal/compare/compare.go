// Package compare reports whether two runs of the benchmark differ in speed, or whether the
// difference is due to chance.
package compare

import (
	"errors"
	"fmt"
	"io"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// The errors of Compare.
var (
	// ErrNotMeasured is returned for a run on the embedded server.
	ErrNotMeasured = errors.New("correctness only, not a measurement")
	// ErrNothingInCommon is returned for runs that share no scenario, contender and load.
	ErrNothingInCommon = errors.New("the runs have no scenario, contender and load in common")
)

// Compare writes how b, the later run, differs from a, point by point. Lines have at most the given
// width, as in table.Write. Worse is true when a contender of this library is significantly worse
// in b, by more than 5 %. It is also true when such a contender failed only in b.
//
// A point is compared by its ratios to the baseline, repetition by repetition. A slow machine slows
// both sides of a ratio. Without a baseline, the point's own numbers are compared.
func Compare(w io.Writer, width int, a, b *result.Run) (worse bool, err error) {
	for i, r := range []*result.Run{a, b} {
		if !r.Measured {
			return false, fmt.Errorf("the %s run: %w", [...]string{"first", "second"}[i], ErrNotMeasured)
		}
	}
	pairs, lost := match(a, b)
	for _, l := range lost {
		worse = worse || l.failed && l.a.Own
	}
	if len(pairs) == 0 && !worse {
		return false, ErrNothingInCommon
	}
	out := &printer{w: w, width: width}
	out.head(a, b)
	out.lost(lost)
	for i, c := range changes(pairs) {
		if i == 0 || pairs[i].scenario != pairs[i-1].scenario {
			out.scenario(pairs[i].scenario)
		}
		out.row(&pairs[i], c)
		worse = worse || c.worse && pairs[i].b.Own
	}
	out.foot(pairs)
	return worse, out.err
}

// differences lists the conditions that differ between two runs and may explain a difference
// between their numbers.
func differences(a, b *result.Run) []string {
	var all []string
	m, n := a.Machine, b.Machine
	for _, d := range []struct{ what, a, b string }{
		{"processor", m.CPU, n.CPU},
		{"cores", fmt.Sprint(m.Cores), fmt.Sprint(n.Cores)},
		{"operating system", m.OS, n.OS},
		{"Go", m.Go, n.Go},
		{"server", m.Server, n.Server},
		{"topology", m.Topology, n.Topology},
		{"added latency", fmt.Sprintf("%g ms", a.Latency), fmt.Sprintf("%g ms", b.Latency)},
		{"length of a sample", fmt.Sprintf("%g s", a.SampleSeconds), fmt.Sprintf("%g s", b.SampleSeconds)},
	} {
		if d.a != d.b {
			all = append(all, fmt.Sprintf("%s: %s, then %s", d.what, d.a, d.b))
		}
	}
	return all
}
