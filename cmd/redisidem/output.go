package main

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// noteColumns is how wide a text beneath a row is at most.
const noteColumns = 120

// rows prints a table for people, or each row as a JSON object. Each column is as wide as its
// widest cell so far.
type rows struct {
	json    *json.Encoder // nil for a table
	waiting [][]string
	widths  []int
	err     error
}

// newRows begins a table with the names of its columns, separated by spaces.
func newRows(output, columns string) *rows {
	if output == "json" {
		return &rows{json: newJSON(os.Stdout)}
	}
	r := new(rows)
	r.line(strings.Fields(columns)...)
	return r
}

func newJSON(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// add prints a row: object as JSON at once, or the cells with the next flush.
func (r *rows) add(object any, cells ...string) {
	if r.json == nil {
		r.line(cells...)
	} else if err := r.json.Encode(object); r.err == nil {
		r.err = err
	}
}

// note prints a text beneath the row that was added last, in a table only. The row's object has it
// as a field.
func (r *rows) note(text string) {
	if r.json == nil {
		r.line("  " + cut(text, noteColumns-2))
	}
}

// addLong is add with a last cell that is beneath the row if it is longer than most.
func (r *rows) addLong(object any, most int, last string, cells ...string) {
	if utf8.RuneCountInString(shown(last)) <= most {
		r.add(object, append(cells, cut(last, most))...)
		return
	}
	r.add(object, cells...)
	r.note(last)
}

// line prints a row of a table. Its last cell has no other behind it, and may be of any width.
func (r *rows) line(cells ...string) {
	for i, cell := range cells[:len(cells)-1] {
		if i == len(r.widths) {
			r.widths = append(r.widths, 0)
		}
		r.widths[i] = max(r.widths[i], utf8.RuneCountInString(cell))
	}
	r.waiting = append(r.waiting, cells)
}

// flush prints the rows that wait, and returns the first error of all that was printed.
func (r *rows) flush() error {
	var text strings.Builder
	for _, cells := range r.waiting {
		last := len(cells) - 1
		line := ""
		for i, cell := range cells[:last] {
			line += cell + strings.Repeat(" ", r.widths[i]-utf8.RuneCountInString(cell)+2)
		}
		text.WriteString(strings.TrimRight(line+cells[last], " ") + "\n")
	}
	r.waiting = nil
	if _, err := os.Stdout.WriteString(text.String()); r.err == nil {
		r.err = err
	}
	return r.err
}

// shown returns a text from Redis as it can be printed: what a terminal would not show, or would
// act on, is quoted.
func shown(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// cut returns a text as it can be printed, in at most so many characters; "-" for none.
func cut(s string, most int) string {
	s = shown(s)
	if s == "" {
		return "-"
	}
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// span returns a duration with one or two units.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return units(d, time.Minute, "m", time.Second, "s")
	case d < 24*time.Hour:
		return units(d, time.Hour, "h", time.Minute, "m")
	}
	return units(d, 24*time.Hour, "d", time.Hour, "h")
}

func units(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := strconv.Itoa(int(d/large)) + largeName
	if rest := int(d % large / small); rest > 0 {
		text += strconv.Itoa(rest) + smallName
	}
	return text
}

// clock returns a time for people.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// count returns "1 key" or "n keys".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
