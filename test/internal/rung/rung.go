// Package rung holds the common parts of the rungs of the proof: their sizes, the seeds of their
// random choices, and their figures. A rung is one kind of proof that the library keeps its
// promise. The command prove runs all rungs.
package rung

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

var (
	size = flag.String("size", Sizes[0], "how much to run: "+strings.Join(Sizes, ", "))
	seed = flag.Uint64("seed", 0,
		"the seed of the random choices; 0 for a new one with nightly and release, and for one that stays the same with the smaller sizes")
)

// Asked returns the values of the flags that all rungs have.
func Asked() (chosenSize string, chosenSeed uint64) { return *size, *seed }

// FigurePrefix begins the line of a figure, since the stream also contains the output of the tests.
const FigurePrefix = "figure "

// Seed returns the seed of the test's random choices. Without -seed, the sizes quick and change
// make the same choices in every run: what fails then, fails because of the change. The larger
// sizes look for new cases. If the test fails, it prints the seed, so that the choices can be
// repeated.
func Seed(t testing.TB) uint64 {
	t.Helper()
	chosen := *seed
	switch {
	case chosen != 0:
	case SizeIndex(*size) >= SizeIndex("nightly"):
		chosen = rand.Uint64()
	default:
		sum := fnv.New64a()
		sum.Write([]byte(t.Name()))
		chosen = sum.Sum64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat it: -run '^%s$' -seed %d", t.Name(), chosen)
		}
	})
	return chosen
}

// Figure prints a figure for a line of the scoreboard, such as R5. It prints nothing if the test
// has failed.
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
