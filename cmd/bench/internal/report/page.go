package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// page is the data of the template.
type page struct {
	Title    string
	Measured bool
	Partial  bool // the run was interrupted
	Facts    []fact
	Promises promises
	Figures  []figure
	Verdict  string // of all figures
	Sections []section
}

// fact is a fact about the run as a whole.
type fact struct {
	Name, Value string
	Code        bool
}

func newPage(r *result.Run) *page {
	p := &page{Title: "Benchmark of redisidem", Measured: r.Measured, Partial: r.Incomplete, Facts: facts(r), Promises: newPromises(r.Promises)}
	cast := looks(r)
	passed := 0
	for i := range r.Figures {
		f := newFigure(&r.Figures[i], r.Measured)
		if f.Passed {
			passed++
		}
		p.Figures = append(p.Figures, f)
	}
	if r.Measured {
		p.Verdict = fmt.Sprintf("%d of %d pass.", passed, len(p.Figures))
	}
	charts := 0
	for i := range r.Scenarios {
		s := newSection(i+1, &r.Scenarios[i], cast, r.Measured)
		for _, c := range s.Charts {
			charts++
			c.ID = charts
		}
		p.Sections = append(p.Sections, s)
	}
	return p
}

func facts(r *result.Run) []fact {
	m := r.Machine
	cores := "1 core"
	if m.Cores != 1 {
		cores = fmt.Sprintf("%d cores", m.Cores)
	}
	all := []fact{
		{Name: "Server", Value: m.Server + ", " + m.Topology},
		{Name: "Machine", Value: strings.Join([]string{m.CPU, cores, m.OS}, ", ")},
		{Name: "Go", Value: m.Go},
		{Name: "Commit", Value: m.Version},
		{Name: "Began", Value: r.Began.UTC().Format("2 January 2006, 15:04 UTC")},
		{Name: "Took", Value: (time.Duration(r.Seconds) * time.Second).String()},
	}
	if n := samples(r); n > 0 {
		length := time.Duration(r.SampleSeconds * float64(time.Second)).String()
		all = append(all, fact{Name: "Samples", Value: fmt.Sprintf("%d of %s for each point", n, length)})
	}
	if m.LoadBefore > 0 {
		all = append(all, fact{Name: "Load", Value: fmt.Sprintf("%.1f before, %.1f at the end, with the benchmark itself", m.LoadBefore, m.LoadAfter)})
	}
	if r.Latency > 0 {
		all = append(all, fact{Name: "Latency added", Value: number(r.Latency) + thin + "ms for each round trip"})
	}
	return append(all, fact{Name: "Command", Value: strings.Join(append([]string{"bench"}, r.Command...), " "), Code: true})
}

// samples returns the number of samples of a point, or 0 without any.
func samples(r *result.Run) int {
	n := 0
	for i := range r.Scenarios {
		for j := range r.Scenarios[i].Points {
			n = max(n, len(r.Scenarios[i].Points[j].Samples))
		}
	}
	return n
}
