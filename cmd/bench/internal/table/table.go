// Package table writes the results of a run as text for people.
package table

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// NotMeasured is the note about a run on the embedded server.
const NotMeasured = "correctness only, not a measurement: install redis-server, or name a server with --redis"

// PageWidth is the width of a text that is not written to a terminal.
const PageWidth = 100

// Head writes the environment of the run, in lines of at most width.
func Head(w io.Writer, r *result.Run, width int) error {
	m := r.Machine
	text := fmt.Sprintf("%s (%s), %s, %d cores shared with the benchmark (%s), %s, redisidem %s", m.Server, m.Topology, m.OS, m.Cores, m.CPU, m.Go, m.Version)
	_, err := fmt.Fprintln(w, wrap(text, width))
	if err == nil && !r.Measured {
		_, err = fmt.Fprintf(w, "\n%s\n", wrap("*** "+NotMeasured+" ***", width))
	}
	return err
}

// Foot writes how the run went and how to read its tables, in lines of at most width.
func Foot(w io.Writer, r *result.Run, width int) error {
	text := fmt.Sprintf("%.0f s in all", r.Seconds)
	if m := r.Machine; m.LoadBefore > 0 {
		text += fmt.Sprintf(", load %.1f before and %.1f at the end", m.LoadBefore, m.LoadAfter)
	}
	text += ". Ratios are against the first line of each table, sample by sample; ± is half the range of the samples."
	_, err := fmt.Fprintf(w, "\n%s\n", wrap(text, width))
	return err
}

// Scenario writes the numbers of one scenario, in lines of at most width as in [Write]. Above the
// table it writes the parts that are the same in all lines. Below it, it writes the contenders
// without numbers.
func Scenario(w io.Writer, s *result.Scenario, measured bool, width int) error {
	title := s.Title
	if !measured {
		title += " (correctness only)"
	}
	about := PageWidth
	if width > 0 {
		about = min(about, width)
	}
	shared, columns := loads(s)
	if shared != "" {
		title += ", " + shared
	}
	if _, err := fmt.Fprintf(w, "\n%s\n%s\n\n", wrap(title, about), wrap(s.About, about)); err != nil {
		return err
	}
	columns = append(columns, speeds(s.Timed)...)
	for _, c := range costs {
		text := func(p *result.Point) string {
			f := c.value(&p.Cost)
			if f == 0 && c.counted && p.Cost.Counted(f) {
				return "0"
			}
			return known(f, c.format)
		}
		if slices.ContainsFunc(s.Points, func(p result.Point) bool { return p.Error == "" && text(&p) != "-" }) {
			columns = append(columns, column{c.name, text})
		}
	}
	head := []string{""}
	for _, c := range columns {
		head = append(head, c.name)
	}
	rows := [][]string{head}
	var absent []string
	for i := range s.Points {
		p := &s.Points[i]
		if p.Error != "" {
			word := "FAILED"
			if p.Skipped {
				word = "left out"
			}
			absent = append(absent, wrap(fmt.Sprintf("%s: %s, %s: %s", p.Title, word, load(p), strings.ReplaceAll(p.Error, "\n", "; ")), about))
			continue
		}
		cells := []string{p.Title}
		for _, c := range columns {
			cells = append(cells, c.text(p))
		}
		rows = append(rows, cells)
	}
	if err := Write(w, width, 1, rows); err != nil {
		return err
	}
	for _, line := range absent {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// Figures writes the project's figures, in lines of at most width if that is not 0. If a line would
// be longer, the title has a line of its own.
func Figures(w io.Writer, figures []result.Figure, width int) error {
	var lines strings.Builder
	if err := writeFigures(&lines, figures, "\t"); err != nil {
		return err
	}
	for line := range strings.Lines(lines.String()) {
		if width > 0 && utf8.RuneCountInString(line) > width+1 {
			return writeFigures(w, figures, "\n\t")
		}
	}
	_, err := io.WriteString(w, lines.String())
	return err
}

// writeFigures writes the figures with a separator between the title and the rest.
func writeFigures(w io.Writer, figures []result.Figure, separator string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range figures {
		sign, verdict := "at least", "short"
		if f.AtMost {
			sign = "at most"
		}
		if f.Pass {
			verdict = "pass"
		}
		value := fmt.Sprintf("%s %s (%s-%s)", figure(f.Value), f.Unit, figure(f.Low), figure(f.High))
		_, _ = fmt.Fprintf(t, "%d\t%s%s%s\t%s %s\t%s\n", f.Number, f.Title, separator, value, sign, bound(f.Bound), verdict) // Flush returns the error
	}
	return t.Flush()
}

// figure formats a figure's value. From a thousand on its decimals mean nothing.
func figure(v float64) string {
	if v >= 1000 {
		return Count(v)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// bound formats a figure's bound.
func bound(v float64) string {
	if v >= 1000 {
		return Count(v)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Count formats a number with a separator between thousands.
func Count(f float64) string {
	digits := strconv.FormatFloat(f, 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Micros formats a duration in microseconds.
func Micros(us float64) string {
	switch {
	case us < 10:
		return fmt.Sprintf("%.2f µs", us)
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.1f ms", us/1e3)
	default:
		return fmt.Sprintf("%.1f s", us/1e6)
	}
}

func percent(s result.Spread) string {
	if s.Median == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%%", 50*(s.High-s.Low)/s.Median)
}

func known(f float64, format string) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf(format, f)
}

// wrap breaks a text into lines of at most width, if that is not 0.
func wrap(text string, width int) string {
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(text) {
		switch {
		case used == 0:
		case width > 0 && used+1+utf8.RuneCountInString(word) > width:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += utf8.RuneCountInString(word)
	}
	return b.String()
}
