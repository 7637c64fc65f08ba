package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	row      = regexp.MustCompile(`(?m)^\| (S\d+) \| .+ \| (.+) \| (.+) \|$`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	numbered = regexp.MustCompile(`^TestS\d+_`)
	step     = regexp.MustCompile(`(?m)^step "(S\d+: [^"]+)"`)
)

// TestEachRequirementHasItsTest holds the table of security.md against the tests and the steps of
// .ci/run: each requirement has one of its name, each that the table names is there, and each of
// such a name is in the table.
func TestEachRequirementHasItsTest(t *testing.T) {
	page, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	there := tests(t)
	for _, name := range steps(t) {
		there[name] = []string{".ci/run"}
	}
	listed := make(map[string]bool)
	rows := row.FindAllStringSubmatch(string(page), -1)
	for i, r := range rows {
		number := r[1]
		if want := fmt.Sprintf("S%d", i+1); number != want {
			t.Errorf("row %d is about %s, not %s", i+1, number, want)
		}
		own := false
		for _, name := range quoted.FindAllStringSubmatch(r[2], -1) {
			listed[name[1]] = true
			own = own || strings.HasPrefix(name[1], "Test"+number+"_") || strings.HasPrefix(name[1], number+": ")
			test, _, _ := strings.Cut(name[1], "/")
			if there[test] == nil {
				t.Errorf("%s: there is no %s", number, test)
			}
			for _, where := range there[test] {
				if !strings.Contains(r[3], "`"+where+"`") {
					t.Errorf("%s: %s is in %s, which the row does not name", number, test, where)
				}
			}
		}
		if !own {
			t.Errorf("%s has no test and no step of its name", number)
		}
	}
	if len(rows) != 18 {
		t.Errorf("the table has %d requirements, and not 18", len(rows))
	}
	for name, where := range there {
		if (numbered.MatchString(name) || slices.Contains(where, ".ci/run")) && !listed[name] {
			t.Errorf("the table is without %s in %s", name, where)
		}
	}
}

// tests returns the tests of all modules, and the folders that each is in.
func tests(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, f := range function.FindAllSubmatch(text, -1) {
			dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")
			if name := string(f[1]); numbered.MatchString(name) || !slices.Contains(found[name], dir) {
				found[name] = append(found[name], dir)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// A test that is in many places, as TestDraft is, says nothing about where; the table names the
	// one that counts.
	for name, where := range found {
		if !numbered.MatchString(name) && len(where) > 1 {
			found[name] = where[:0:0]
		}
	}
	return found
}

// steps returns the steps of .ci/run that are about a requirement.
func steps(t *testing.T) (names []string) {
	t.Helper()
	script, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range step.FindAllSubmatch(script, -1) {
		names = append(names, string(s[1]))
	}
	return names
}
