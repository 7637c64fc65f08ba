package docs

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"
)

var (
	trapRow  = regexp.MustCompile(`(?m)^\| ([LS]\d+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$`)
	trapTest = regexp.MustCompile(`^TestTrap([LS]\d+)`)
)

// TestEachTrapHasItsSentence compares traps.md with the tests. Each trap has a row that names its
// tests, each of these tests exists, and each test with a trap's number is in the row of that trap.
func TestEachTrapHasItsSentence(t *testing.T) {
	page, err := os.ReadFile("traps.md")
	if err != nil {
		t.Fatal(err)
	}
	existing := tests(t)
	listed := make(map[string]string)
	var numbers, want []string
	for _, row := range trapRow.FindAllStringSubmatch(string(page), -1) {
		numbers = append(numbers, row[1])
		names := name.FindAllStringSubmatch(row[2], -1)
		if len(names) == 0 {
			t.Errorf("%s has no test", row[1])
		}
		for _, n := range names {
			listed[n[1]] = row[1]
			if existing[n[1]] == nil {
				t.Errorf("%s: %s does not exist", row[1], n[1])
			}
		}
	}
	for _, list := range []struct {
		letter string
		count  int
	}{{"L", 21}, {"S", 18}} {
		for i := range list.count {
			want = append(want, fmt.Sprint(list.letter, i+1))
		}
	}
	if !slices.Equal(numbers, want) {
		t.Errorf("the rows are %v, want %v", numbers, want)
	}
	for test := range existing {
		if n := trapTest.FindStringSubmatch(test); len(n) > 0 && listed[test] != n[1] {
			t.Errorf("%s is not in the row of %s", test, n[1])
		}
	}
}
