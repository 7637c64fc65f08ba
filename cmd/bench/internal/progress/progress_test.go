package progress

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBarShowsNothingWithoutSteps(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, b := range []*Bar{nil, New(&out, 0), New(os.Stderr, -1)} {
		b.Step("first")
		b.Clear()
		b.Done()
	}
	if out.Len() > 0 {
		t.Errorf("written: %q", &out)
	}
}

func TestBarIsALineForEachTenthElsewhere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := New(&out, 30)
	for i := range 32 { // two more than announced
		b.Step(fmt.Sprint("step ", i))
		b.Clear()
	}
	b.Done()
	want := "0 % step 0\n10 % step 3\n20 % step 6\n30 % step 9\n40 % step 12\n50 % step 15\n60 % step 18\n70 % step 21\n80 % step 24\n90 % step 27\n"
	if out.String() != want {
		t.Errorf("written:\n%s", &out)
	}
	out.Reset()
	b = New(&out, 2)
	b.Step("first")
	b.Step("second")
	if want := "0 % first\n50 % second\n"; out.String() != want {
		t.Errorf("written:\n%s", &out)
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
