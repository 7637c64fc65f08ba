package main

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redisidem/redisidem/redisidem"
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

	colours bool
	begun   bool // the heading is printed
	state   int  // the column of states, or -1
}

// The colours of a table, as a terminal takes them.
const (
	bold     = "\x1b[1m"
	red      = "\x1b[31m"
	green    = "\x1b[32m"
	yellow   = "\x1b[33m"
	ordinary = "\x1b[0m"
)

// stateColours has the states that need an operator, or that show work.
var stateColours = map[string]string{
	redisidem.KeyUnreadable.String(): red, redisidem.KeyDead.String(): red,
	redisidem.KeyInterrupted.String(): yellow, redisidem.KeyAbandoned.String(): yellow,
	redisidem.KeyInFlight.String(): green,
}

// coloured reports whether tables have colours: on a terminal that shows them, whose user has not
// refused them.
func coloured() bool {
	return terminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// newRows begins a table with the names of its columns, separated by spaces.
func newRows(output, columns string) *rows {
	if output == "json" {
		return &rows{json: newJSON(os.Stdout)}
	}
	names := strings.Fields(columns)
	r := &rows{colours: coloured(), state: slices.Index(names, "STATE")}
	r.line(names...)
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
	if columnsOf(shown(last)) <= most {
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
		r.widths[i] = max(r.widths[i], columnsOf(cell))
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
			line += r.paint(i, cell) + strings.Repeat(" ", r.widths[i]-columnsOf(cell)+2)
		}
		text.WriteString(strings.TrimRight(line+r.paint(last, cells[last]), " ") + "\n")
		r.begun = true
	}
	r.waiting = nil
	if _, err := os.Stdout.WriteString(text.String()); r.err == nil {
		r.err = err
	}
	return r.err
}

// paint returns a cell in its colour, if it has one.
func (r *rows) paint(column int, cell string) string {
	colour := ""
	switch {
	case !r.colours:
	case !r.begun:
		colour = bold
	case column == r.state:
		colour = stateColours[cell]
	}
	if colour == "" {
		return cell
	}
	return colour + cell + ordinary
}

// wide are the characters that take two columns of a terminal.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, // Hangul
		{Lo: 0x2e80, Hi: 0x303e, Stride: 1}, // radicals and punctuation of CJK
		{Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, // Kana, CJK and Yi
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, // Hangul
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, // CJK
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, // forms of CJK
		{Lo: 0xff01, Hi: 0xff60, Stride: 1}, // full width
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, // pictures
		{Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1},
		{Lo: 0x1f900, Hi: 0x1faff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1}, // CJK
	},
}

// columnsOf returns how many columns a text takes on a terminal.
func columnsOf(text string) (n int) {
	for _, r := range text {
		n += widthOf(r)
	}
	return n
}

func widthOf(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me): // they are drawn onto the character before
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// head returns the longest beginning of a text that takes at most so many columns.
func head(text string, columns int) string {
	for i, r := range text {
		if columns -= widthOf(r); columns < 0 {
			return text[:i]
		}
	}
	return text
}

// wrapped returns a text in lines of at most so many columns.
func wrapped(text string, columns int) (lines []string) {
	for columnsOf(text) > columns {
		line := head(text, columns)
		lines, text = append(lines, line), text[len(line):]
	}
	return append(lines, text)
}

// shown returns a text from Redis as it can be printed: what a terminal would not show, or would
// act on, is quoted.
func shown(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// cut returns a text as it can be printed, in at most so many columns; "-" for none.
func cut(s string, most int) string {
	s = shown(s)
	if s == "" {
		return "-"
	}
	if columnsOf(s) > most {
		return head(s, most-1) + "…"
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

// have returns "1 key has" or "n keys have".
func have(n int, thing string) string {
	if n == 1 {
		return count(n, thing) + " has"
	}
	return count(n, thing) + " have"
}

// count returns "1 key" or "n keys".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
