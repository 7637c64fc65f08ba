package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// rows prints a table for people, or each row as a JSON object.
type rows struct {
	table *tabwriter.Writer // nil for JSON
	json  *json.Encoder
	err   error
}

// newRows begins a table with the names of its columns, separated by spaces.
func newRows(output, columns string) *rows {
	if output == "json" {
		return &rows{json: newJSON(os.Stdout)}
	}
	r := &rows{table: tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)}
	r.line(strings.Fields(columns)...)
	return r
}

func newJSON(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// add prints a row: object as JSON, or the cells.
func (r *rows) add(object any, cells ...string) {
	if r.table != nil {
		r.line(cells...)
	} else if err := r.json.Encode(object); r.err == nil {
		r.err = err
	}
}

func (r *rows) line(cells ...string) {
	if _, err := fmt.Fprintln(r.table, strings.TrimRight(strings.Join(cells, "\t"), "\t")); r.err == nil {
		r.err = err
	}
}

// end prints what is left.
func (r *rows) end() error {
	if r.table != nil {
		if err := r.table.Flush(); r.err == nil {
			r.err = err
		}
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
