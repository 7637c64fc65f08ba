package compare

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
)

// printer writes a comparison. It stops at the first error, and keeps it.
type printer struct {
	w     io.Writer
	table *tabwriter.Writer
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
	if d := differences(a.Machine, b.Machine); len(d) > 0 {
		o.printf("\nWarning: the runs did not take place under the same conditions, which may be all the difference there is:\n  %s\n",
			strings.Join(d, "\n  "))
	}
}

func (o *printer) scenario(s *result.Scenario) {
	o.endTable()
	o.printf("\n%s\n\n", s.Title)
	if o.err == nil {
		o.table = tabwriter.NewWriter(o.w, 0, 0, 2, ' ', tabwriter.AlignRight)
		o.cells("", "load", "", "before", "after", "change", "p", "server µs/op", "allocs/op", "alloc B/op", "B/record")
	}
}

func (o *printer) row(p pair, c change) {
	what, write := "ops/s", table.Count
	if p.open() {
		what, write = "p99", table.Micros
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
	x, y := p.a.Cost, p.b.Cost
	o.cells(p.b.Title, load(p.b), what, write(c.before), write(c.after), diff,
		fmt.Sprintf("%.3f n=%d+%d", c.p, len(p.a.Samples), len(p.b.Samples)),
		cost(x.ServerCPU, y.ServerCPU, "%.1f"), cost(x.Allocations, y.Allocations, "%.1f"),
		cost(x.AllocBytes, y.AllocBytes, "%.0f"), cost(x.RecordMemory, y.RecordMemory, "%.0f"))
}

func (o *printer) foot(few, worse bool, points int) {
	o.endTable()
	o.printf("\n%d points in common. Medians; ~ is no significant difference (Mann-Whitney U test, p < %g counts). "+
		"Of so many points, %.0f or so differ by chance alone. Costs are before, then after.\n",
		points, alpha, math.Ceil(alpha*float64(points)))
	if few {
		o.printf("(few): a difference takes at least %d samples of each run to be significant; take more with --repetitions.\n", fewSamples)
	}
	if worse {
		o.printf("Worse: redisidem lost more than %.0f %% where it says so.\n", 100*harmless)
	}
}

func (o *printer) cells(cells ...string) {
	if o.table != nil {
		_, _ = fmt.Fprintln(o.table, strings.Join(cells, "\t")+"\t") // Flush tells of errors
	}
}

func (o *printer) endTable() {
	if o.table == nil {
		return
	}
	if err := o.table.Flush(); o.err == nil {
		o.err = err
	}
	o.table = nil
}

// load says under which load a point was measured.
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

// cost writes what an operation cost before and after, where it is known.
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
