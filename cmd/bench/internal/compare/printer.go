package compare

import (
	"fmt"
	"io"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
)

// printer writes a comparison. It stops at the first error and keeps it.
type printer struct {
	w     io.Writer
	width int
	rows  [][]string // of the next table
	few   bool       // this library has too few samples at some point
	worse bool       // whether this library is worse at any point
	err   error
}

func (o *printer) printf(format string, args ...any) {
	if o.err == nil {
		_, o.err = fmt.Fprintf(o.w, format, args...)
	}
}

func (o *printer) head(a, b *result.Run) {
	for i, r := range []*result.Run{a, b} {
		o.printf("%s: %s, version %s, %s (%s)\n", [...]string{"before", "after "}[i], r.Began.UTC().Format("2006-01-02 15:04"),
			r.Machine.Version, r.Machine.Server, r.Machine.Topology)
	}
	for i, r := range []*result.Run{a, b} {
		if r.Incomplete {
			o.printf("\nWarning: the %s run was interrupted, and holds what was measured until then.\n", [...]string{"first", "second"}[i])
		}
	}
	if d := differences(a, b); len(d) > 0 {
		o.printf("\nWarning: the runs did not take place under the same conditions, which may be all the difference there is:\n  %s\n",
			strings.Join(d, "\n  "))
	}
}

// lost lists the points that only the first run has measured.
func (o *printer) lost(all []lost) {
	if len(all) == 0 {
		return
	}
	o.printf("\nMeasured before, and no more:\n")
	for _, l := range all {
		o.printf("  %s (%s, %s) %s\n", l.a.Title, l.scenario.Title, load(l.a), strings.ReplaceAll(l.why, "\n", "; "))
	}
}

func (o *printer) scenario(s *result.Scenario) {
	o.endTable()
	o.printf("\n%s\n\n", s.Title)
	o.cells("", "load", "", "before", "after", "change", "p", "ops/s", "server µs/op", "allocs/op", "alloc B/op", "B/record")
}

func (o *printer) row(p *pair, c change) {
	what, write := "ops/s", table.Count
	if p.timed() {
		what, write = "p99", table.Micros
	}
	if p.paired() {
		what += " ratio"
		write = func(f float64) string { return fmt.Sprintf("%.2f", f) }
	}
	diff := "~"
	switch {
	case c.tooFew:
		diff = "~ (few)"
	case c.significant:
		diff = fmt.Sprintf("%+.1f%%", 100*c.part)
	}
	if c.worse && p.b.Own {
		diff += " worse"
	}
	speed := "-"
	if !p.scenario.Timed {
		speed = table.Count(p.a.Throughput().Median) + " > " + table.Count(p.b.Throughput().Median)
	}
	x, y := p.a.Cost, p.b.Cost
	o.cells(p.b.Title, load(p.b), what, write(c.before), write(c.after), diff,
		fmt.Sprintf("%.3f n=%d+%d", c.p, c.na, c.nb), speed,
		cost(x.ServerCPU, y.ServerCPU, "%.1f"), cost(x.Allocations, y.Allocations, "%.1f"),
		cost(x.AllocBytes, y.AllocBytes, "%.0f"), cost(x.RecordMemory, y.RecordMemory, "%.0f"))
	o.few = o.few || c.tooFew && p.b.Own
	o.worse = o.worse || c.worse && p.b.Own
}

func (o *printer) foot(pairs []pair) {
	o.endTable()
	own := 0
	for i := range pairs {
		if pairs[i].b.Own {
			own++
		}
	}
	o.printf("\n%d points in common, %d of them redisidem's. Medians; a ratio is to the baseline of the same repetition. ~ is no significant "+
		"difference: Mann-Whitney U test, p < %g, corrected for the number of points (Holm). Costs are before, then after.\n",
		len(pairs), own, alpha)
	if o.few {
		o.printf("(few): these runs cannot tell. Of %d points none can differ significantly with fewer than %d samples of each run; "+
			"take more with --repetitions.\n", own, enough(own))
	}
	if o.worse {
		o.printf("Worse: redisidem lost more than %.0f %% where it says so.\n", 100*harmless)
	}
}

func (o *printer) cells(cells ...string) { o.rows = append(o.rows, cells) }

func (o *printer) endTable() {
	if o.err == nil {
		o.err = table.Write(o.w, o.width, 2, o.rows)
	}
	o.rows = nil
}

// load names the load at which a point was measured.
func load(p *result.Point) string {
	parts := []string{fmt.Sprintf("%d callers", p.Callers), table.Count(float64(p.BodyBytes)) + " B"}
	if p.Records > 0 {
		parts = append(parts, table.Count(float64(p.Records))+" records")
	}
	if p.Rate > 0 {
		parts = append(parts, "at "+table.Count(p.Rate)+"/s")
	}
	return strings.Join(parts, ", ")
}

// cost writes the cost of an operation before and after, if it is known.
func cost(before, after float64, format string) string {
	if before == 0 && after == 0 {
		return "-"
	}
	one := func(f float64) string {
		if f == 0 {
			return "?"
		}
		return fmt.Sprintf(format, f)
	}
	return one(before) + " > " + one(after)
}
