package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGoBlocksAreCompiled finds each Go block of the pages in a source file of the repository,
// where it is compiled or run with what it needs around it. A block that is a whole program is
// built. The indentation may differ.
func TestGoBlocksAreCompiled(t *testing.T) {
	t.Parallel()
	sources := make(map[string]string)
	for _, name := range tracked(t, "*.go") {
		sources[name] = words(read(t, name))
	}
	block := regexp.MustCompile("(?s)```go\n(.*?)\n *```")
	blocks := 0
	for _, page := range tracked(t, "*.md") {
		for _, m := range block.FindAllStringSubmatch(read(t, page), -1) {
			blocks++
			code := words(m[1])
			if strings.HasPrefix(code, "package ") {
				build(t, page, m[1])
				continue
			}
			found := false
			for _, source := range sources {
				found = found || strings.Contains(source, code)
			}
			if !found {
				t.Errorf("%s: no source file has this block:\n%s", page, m[1])
			}
		}
	}
	if blocks < 10 {
		t.Errorf("%d blocks", blocks)
	}
}

// build builds a program that a page shows.
func build(t *testing.T, page, program string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(name, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, name).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", page, err, out)
	}
}

// tracked returns the files of the repository that a pattern of git matches.
func tracked(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", pattern).Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(out))
	for i, name := range names {
		names[i] = filepath.Join("..", name)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// words returns the words of a text with one space between them.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }
