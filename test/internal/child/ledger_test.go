//go:build unix

package child

import (
	"slices"
	"testing"
)

func TestTornLinesCountAsNotWritten(t *testing.T) {
	t.Parallel()
	l := NewLedger(t)
	pen, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	pen.Write("one %d", 1)
	if _, err := pen.file.WriteString(lineBegin + "to"); err != nil {
		t.Fatal(err)
	}
	pen.Write("two\nlines")
	pen.Write("")
	pen.Write("three")
	if got, want := l.Lines(t), []string{"one 1", "two; lines", "", "three"}; !slices.Equal(got, want) {
		t.Errorf("the lines are %q, want %q", got, want)
	}
	if _, err := pen.file.WriteString(lineBegin + "torn at the end"); err != nil {
		t.Fatal(err)
	}
	if got := len(l.Lines(t)); got != 4 {
		t.Errorf("there are %d lines, want 4", got)
	}
	if err := pen.Close(); err != nil {
		t.Fatal(err)
	}
}
