package table

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Write writes rows of cells in right-aligned columns. If the columns do not fit into width, it
// writes several tables one below the other. Each repeats the first columns, keys many. A width of
// 0 means no limit, as for a file.
func Write(w io.Writer, width, keys int, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], gap+utf8.RuneCountInString(cell))
		}
	}
	used := 0
	for _, n := range widths[:keys] {
		used += n
	}
	for from := keys; from < len(widths); {
		to, line := from+1, used+widths[from]
		for to < len(widths) && (width <= 0 || line+widths[to] <= width) {
			line += widths[to]
			to++
		}
		if from > keys {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		for _, row := range rows {
			var b strings.Builder
			for i, cell := range row {
				if i < keys || i >= from && i < to {
					b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + cell)
				}
			}
			if _, err := fmt.Fprintln(w, b.String()); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// gap is the room between two columns.
const gap = 2
