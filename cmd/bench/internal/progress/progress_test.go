package progress

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBarShowsNothingWithoutATerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var buffer bytes.Buffer
	for _, b := range []*Bar{nil, New(&buffer, 3), New(file, 3), New((*os.File)(nil), 3), New(nil, 3), New(os.Stderr, 0), New(os.Stderr, -1)} {
		if b != nil {
			t.Error("there is a bar")
		}
		b.Step("first")
		b.Clear()
		b.Done()
	}
	if info, err := file.Stat(); err != nil || info.Size() > 0 || buffer.Len() > 0 {
		t.Error("something was written", err)
	}
}

func TestBarShowsTheStep(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := draw(&out, 2, 0)
	for _, label := range []string{"first", "second", "third", "fourth"} { // two more than announced
		b.Step(label)
		b.Clear()
	}
	b.Done()
	b.Done()
	if said := out.String(); !strings.Contains(said, "first") || !strings.Contains(said, "0%") {
		t.Errorf("%q", said)
	}
}

func TestBarFitsIntoALine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := draw(&out, 200, 80)
	label := "First execution over HTTP: HTTP, redisidem's middleware, auto-pipelined"
	for range 3 {
		b.Step(label)
		_ = b.bar.RenderBlank() // without a delay
	}
	said := out.String()
	for line := range strings.SplitSeq(said, "\r") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("the line has %d columns: %q", n, line)
		}
	}
	if !strings.Contains(said, "First execution over HTTP: HTTP") || strings.Contains(said, label) {
		t.Errorf("%q", said)
	}
}
