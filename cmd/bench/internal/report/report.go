// Package report writes a run of the benchmark as one self-contained HTML file.
package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

//go:embed page.html chart.html chart.svg style.css
var files embed.FS

// pages is the template of a report. html/template escapes all texts of a run.
var pages = template.Must(template.ParseFS(files, "page.html", "chart.html", "chart.svg", "style.css"))

// HTML writes the report of a run: one self-contained file, for screens of any size and for paper.
func HTML(w io.Writer, r *result.Run) error {
	return pages.ExecuteTemplate(w, "page.html", newPage(r))
}

// SVG writes one drawing of a run: the throughput of a scenario's contenders against the
// baseline's.
func SVG(w io.Writer, r *result.Run, scenario string) error {
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Name != scenario {
			continue
		}
		_, shown := chosen(measured(s))
		if c := ratios(shown, looks(r)); c != nil {
			c.Title = s.Title // the axis describes the rest
			return pages.ExecuteTemplate(w, "chart.svg", c)
		}
	}
	return fmt.Errorf("the run has no ratios of a scenario %q", scenario)
}
