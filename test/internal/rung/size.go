package rung

import (
	"slices"
	"strings"
	"testing"
)

// Sizes are the values of -size, the smallest first. The first one is for runs of all tests of the
// project. It only shows that a rung works.
var Sizes = []string{"quick", "change", "nightly", "release"}

// quickPart is the ratio of the size change to the size quick.
const quickPart = 10

// SizeIndex returns the index of a size in Sizes, or -1.
func SizeIndex(name string) int { return slices.Index(Sizes, name) }

// Size returns the number for the chosen size: change for every change, nightly for every night,
// release before a release. Without -size it returns a tenth of change, and at least one.
func Size(t testing.TB, change, nightly, release int) int {
	t.Helper()
	i := SizeIndex(*size)
	if i < 0 {
		t.Fatalf("-size is %q: it can be %s", *size, strings.Join(Sizes, ", "))
	}
	return [...]int{max(1, change/quickPart), change, nightly, release}[i]
}
