package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// Example runs the program on an embedded server.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	if err := os.Setenv("REDIS_URL", "redis://"+server.Addr()); err != nil {
		panic(err)
	}
	main()
	// Output:
	// receipt 1 false <nil>
	// receipt 1 true <nil>
}

// TestReadmeShowsThisProgram keeps the first Go block of the README equal to the body of main.
func TestReadmeShowsThisProgram(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, opened := strings.Cut(string(readme), "```go\n")
	block, _, closed := strings.Cut(rest, "```\n")
	if !opened || !closed {
		t.Fatal("README.md has no Go block")
	}
	_, body, _ := strings.Cut(string(program), "\nfunc main() {\n")
	body = strings.ReplaceAll("\n"+strings.TrimSuffix(body, "}\n"), "\n\t", "\n")
	if block != body[1:] {
		t.Errorf("README.md shows\n%s\nand main is\n%s", block, body[1:])
	}
}

// TestFirstKey does what docs/first-key.md says: it runs the program twice, and then with another
// request under the same key.
func TestFirstKey(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/first-key.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	build := func(name, text string) string {
		t.Helper()
		source, overlay, binary := filepath.Join(dir, name+".go"), filepath.Join(dir, name+".json"), filepath.Join(dir, name)
		here, err := filepath.Abs("main.go")
		if err != nil {
			t.Fatal(err)
		}
		replace, err := json.Marshal(map[string]any{"Replace": map[string]string{here: source}})
		if err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string][]byte{source: []byte(text), overlay: replace} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil { //nolint:gosec // files of this test
			t.Fatalf("%v: %s", err, out)
		}
		return binary
	}
	server := miniredis.RunT(t)
	run := func(binary string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+server.Addr())
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	first := build("first", string(program))
	if got := run(first); !strings.Contains(string(page), "\n   ```text\n   "+strings.ReplaceAll(strings.TrimSpace(got), "\n", "\n   ")+"\n   ```\n") {
		t.Errorf("the page does not have\n%s", got)
	}
	if got := run(first); strings.Count(got, " true <nil>\n") != 2 || !strings.Contains(string(page), "Both lines now say `true`") {
		t.Errorf("the second time it prints\n%s", got)
	}
	if !strings.Contains(string(page), "Change `1200` to `1300`") {
		t.Error("the page has another change")
	}
	other := build("other", strings.Replace(string(program), "1200", "1300", 1))
	if got := run(other); strings.Count(got, "key was used with another request\n") != 2 {
		t.Errorf("with another request it prints\n%s", got)
	}
}
