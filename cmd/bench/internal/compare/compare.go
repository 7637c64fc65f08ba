// Package compare tells whether one run of the benchmark was faster than another, or whether that is chance.
package compare

import (
	"errors"
	"fmt"
	"io"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// What Compare refuses.
var (
	// ErrSchema is returned for runs that are stored in different formats.
	ErrSchema = errors.New("the runs are stored in different formats")
	// ErrNotMeasured is returned for a run on the embedded server.
	ErrNotMeasured = errors.New("correctness only, not a measurement")
	// ErrNothingInCommon is returned for runs without a scenario, contender and load that both have.
	ErrNothingInCommon = errors.New("the runs have no scenario, contender and load in common")
)

// Compare writes how b, the later run, differs from a, point by point. Worse is true when a contender of this library is
// significantly worse in b, by more than 5 %.
func Compare(w io.Writer, a, b *result.Run) (worse bool, err error) {
	if err := check(a, b); err != nil {
		return false, err
	}
	pairs := match(a, b)
	if len(pairs) == 0 {
		return false, ErrNothingInCommon
	}
	out := &printer{w: w}
	out.head(a, b)
	few := false
	for i, p := range pairs {
		if i == 0 || p.scenario != pairs[i-1].scenario {
			out.scenario(p.scenario)
		}
		c := p.change()
		out.row(p, c)
		few = few || c.tooFew
		worse = worse || c.worse && p.b.Own
	}
	out.foot(few, worse, len(pairs))
	return worse, out.err
}

// check returns why two runs cannot be compared.
func check(a, b *result.Run) error {
	if a.Schema != b.Schema {
		return fmt.Errorf("%w: %d and %d", ErrSchema, a.Schema, b.Schema)
	}
	for i, r := range []*result.Run{a, b} {
		if !r.Measured {
			return fmt.Errorf("the %s run: %w", [...]string{"first", "second"}[i], ErrNotMeasured)
		}
	}
	return nil
}

// differences names what differs between the places of two runs, so that their numbers may differ for that reason.
func differences(a, b result.Machine) []string {
	var all []string
	for _, d := range []struct{ what, a, b string }{
		{"processor", a.CPU, b.CPU},
		{"cores", fmt.Sprint(a.Cores), fmt.Sprint(b.Cores)},
		{"operating system", a.OS, b.OS},
		{"Go", a.Go, b.Go},
		{"server", a.Server, b.Server},
		{"topology", a.Topology, b.Topology},
	} {
		if d.a != d.b {
			all = append(all, fmt.Sprintf("%s: %s, then %s", d.what, d.a, d.b))
		}
	}
	return all
}
