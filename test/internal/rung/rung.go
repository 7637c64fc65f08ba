// Package rung is what the rungs of the proof have in common: how large they run, what their random choices are made of, and
// how they tell their figures. Package prove runs them all.
package rung

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

var (
	size = flag.String("size", "change", "how much is run: change, nightly or release")
	seed = flag.Uint64("seed", 0, "what the random choices are made of; 0 for a new one")
)

// FigurePrefix begins the line of a figure. The tests' own output is on the same stream.
const FigurePrefix = "figure "

// Size returns how many to run: the first for every change, the second every night, the third before a release.
func Size(t testing.TB, change, nightly, release int) int {
	t.Helper()
	switch *size {
	case "change":
		return change
	case "nightly":
		return nightly
	case "release":
		return release
	}
	t.Fatalf("-size is %q: it can be change, nightly or release", *size)
	return 0
}

// Seed returns what the test's random choices are made of, and prints it if the test fails, so that they can be made again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat it: -run '^%s$' -seed %d", t.Name(), chosen)
		}
	})
	return chosen
}

// Figure tells what was measured for a line of the scoreboard, such as R5. A test that fails tells nothing.
func Figure(t testing.TB, id, format string, args ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	writeFigure(os.Stdout, id, fmt.Sprintf(format, args...))
}

func writeFigure(w io.Writer, id, text string) {
	fmt.Fprintf(w, "%s%s: %s\n", FigurePrefix, id, text)
}
