package main

import (
	"os"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// Example runs the program of the README on an embedded server.
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

// TestReadmeShowsThisProgram keeps the first Go block of the README equal to main.go.
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
		t.Fatal("the README has no Go block")
	}
	if block != string(program) {
		t.Errorf("the README's first Go block is not examples/minimal/main.go:\n%s", block)
	}
}
