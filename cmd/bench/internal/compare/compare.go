// Package compare tells whether one run of the benchmark differs from another.
package compare

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// tolerance is how much worse a contender of ours may get before Compare says so.
const tolerance = 0.05

// point names a point of a run.
type point struct {
	scenario, contender string
	callers, body       int
	records             int64
	rate                float64
}

// Compare writes how the points that both runs have changed from a to b. A change is significant by a Mann-Whitney U-test
// over the samples. worse reports whether a contender of this project's own got significantly worse by more than 5 %: its
// throughput, or in an open loop its p99.
func Compare(w io.Writer, a, b *result.Run) (worse bool, err error) {
	if !a.Measured || !b.Measured {
		return false, errors.New("a run on the embedded server is no measurement")
	}
	if a.Machine != b.Machine {
		if _, err := fmt.Fprintf(w, "The runs are not alike:\n  before: %+v\n  after:  %+v\n\n", a.Machine, b.Machine); err != nil {
			return false, err
		}
	}
	before := points(a)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) } // Flush tells of errors
	row("scenario", "contender", "callers", "body", "", "before", "after", "change", "", "server µs", "allocs", "B/record")
	common := 0
	for _, s := range b.Scenarios {
		for i := range s.Points {
			now := &s.Points[i]
			was := before[nameOf(s.Name, now)]
			if was == nil || was.Error != "" || now.Error != "" {
				continue
			}
			common++
			d := differ(was, now)
			if d.significant && d.worse > tolerance && strings.HasPrefix(now.Contender, "redisidem") {
				worse = true
			}
			row(s.Name, now.Contender, fmt.Sprint(now.Callers), fmt.Sprint(now.BodyBytes), d.unit, fmt.Sprintf("%.4g", d.before),
				fmt.Sprintf("%.4g", d.after), d.change(), d.note,
				pair(was.Cost.ServerCPU, now.Cost.ServerCPU), pair(was.Cost.Allocations, now.Cost.Allocations),
				pair(was.Cost.RecordMemory, now.Cost.RecordMemory))
		}
	}
	if common == 0 {
		return false, errors.New("the runs have no point in common")
	}
	return worse, t.Flush()
}

func points(r *result.Run) map[point]*result.Point {
	all := make(map[point]*result.Point)
	for _, s := range r.Scenarios {
		for i := range s.Points {
			all[nameOf(s.Name, &s.Points[i])] = &s.Points[i]
		}
	}
	return all
}

func nameOf(scenario string, p *result.Point) point {
	return point{scenario, p.Contender, p.Callers, p.BodyBytes, p.Records, p.Rate}
}

// difference is how a point changed.
type difference struct {
	unit          string
	before, after float64 // medians
	worse         float64 // by which share; negative: better
	significant   bool
	note          string
}

func differ(was, now *result.Point) difference {
	d := difference{unit: "ops/s"}
	value := func(s result.Sample) float64 { return s.PerSecond }
	if now.Rate > 0 {
		d.unit = "p99 µs"
		value = func(s result.Sample) float64 { return s.Latency.P99 }
	}
	a, b := sample(was.Samples, value), sample(now.Samples, value)
	d.before, d.after = median(a), median(b)
	d.worse = (d.before - d.after) / d.before
	if now.Rate > 0 {
		d.worse = -d.worse
	}
	test := benchmath.AssumeNothing.Compare(a, b)
	d.significant = test.P < test.Alpha && !math.IsNaN(test.P)
	d.note = fmt.Sprintf("p=%.3f n=%d+%d", test.P, len(a.Values), len(b.Values))
	if !d.significant && min(len(a.Values), len(b.Values)) < 4 {
		d.note += ", too few samples to tell"
	}
	return d
}

// change writes by how much a point changed, or ~ where nobody can tell.
func (d difference) change() string {
	if !d.significant {
		return "~"
	}
	return fmt.Sprintf("%+.1f%%", 100*(d.after-d.before)/d.before)
}

func sample(samples []result.Sample, value func(result.Sample) float64) *benchmath.Sample {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return benchmath.NewSample(values, &benchmath.DefaultThresholds)
}

func median(s *benchmath.Sample) float64 { return result.SpreadOf(s.Values).Median }

func pair(a, b float64) string {
	if a == 0 && b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f → %.1f", a, b)
}
