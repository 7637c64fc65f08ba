package docs

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	line = regexp.MustCompile(`(?m)^\| (R\d+) \| `)
	name = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*)`")
)

// TestProofNamesTestsThatAreThere holds reliability.md against the tests that it names, and against
// the list of what is to be shown.
func TestProofNamesTestsThatAreThere(t *testing.T) {
	text, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	there := tests(t)
	for _, n := range name.FindAllStringSubmatch(page, -1) {
		if there[n[1]] == nil {
			t.Errorf("there is no %s", n[1])
		}
	}
	var rows []string
	for _, r := range line.FindAllStringSubmatch(page, -1) {
		rows = append(rows, r[1])
	}
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("R%d", i+1))
	}
	if got := strings.Join(rows, " "); got != strings.Join(want, " ") {
		t.Errorf("the scoreboard has the lines %s", got)
	}
}
