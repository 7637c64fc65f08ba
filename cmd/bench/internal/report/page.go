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
	p := &page{Title: "Benchmark of redisidem", Measured: r.Measured, Partial: r.Incomplete, Facts: facts(r)}
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
	return []fact{
		{Name: "Server", Value: m.Server + ", " + m.Topology},
		{Name: "Machine", Value: strings.Join([]string{m.CPU, cores, m.OS}, ", ")},
		{Name: "Go", Value: m.Go},
		{Name: "Version", Value: m.Version},
		{Name: "Began", Value: r.Began.UTC().Format("2 January 2006, 15:04 UTC")},
		{Name: "Took", Value: (time.Duration(r.Seconds) * time.Second).String()},
		{Name: "Command", Value: strings.Join(append([]string{"bench"}, r.Command...), " "), Code: true},
	}
}
