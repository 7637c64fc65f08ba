// Package report draws a run of the benchmark as one HTML file that needs nothing else.
package report

import (
	"embed"
	"html/template"
	"io"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

//go:embed page.html chart.html style.css
var files embed.FS

// pages is the template of a report. What a run says is escaped by html/template wherever it stands.
var pages = template.Must(template.ParseFS(files, "page.html", "chart.html", "style.css"))

// HTML writes the report of a run: one file with everything in it, for screens of any size and for paper.
func HTML(w io.Writer, r *result.Run) error {
	return pages.ExecuteTemplate(w, "page.html", newPage(r))
}
