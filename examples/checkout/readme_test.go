package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeShowsTheWalkthrough compares the commands that README.md shows with those of the
// script: what it prints cannot be compared, since carts have random names.
func TestReadmeShowsTheWalkthrough(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	find := func(text, pattern string) (found []string) {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, match[1])
		}
		return found
	}
	script, readme := read("walkthrough.sh"), read("README.md")
	commands := find(script, `(?m)^(?:post|settled) \w+ '(.*?)(?: && fail .*)?$`)
	for i, c := range commands { // as the shell reads them
		c = strings.ReplaceAll(c, `'\''`, `'`)
		if inner, ok := strings.CutSuffix(c, `\'`); ok {
			commands[i] = inner
		} else {
			commands[i] = strings.TrimSuffix(c, `'`)
		}
	}
	if shown := find(readme, `(?m)^\$ curl -i -X POST (.*)$`); !slices.Equal(shown, commands) || len(shown) < 10 {
		t.Errorf("README.md shows\n%s\nand the script runs\n%s", strings.Join(shown, "\n"), strings.Join(commands, "\n"))
	}
	if shown, titles := find(readme, `(?m)^== (.*)$`), find(script, `(?m)^echo "== (.*)"$`); !slices.Equal(shown, titles) || len(shown) < 5 {
		t.Errorf("README.md shows\n%s\nand the script has\n%s", strings.Join(shown, "\n"), strings.Join(titles, "\n"))
	}
}
