package main

import (
	"os"
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
