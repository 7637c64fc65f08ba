package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/leak"
)

// asProgram makes the test binary run the program.
const asProgram = "REDISIDEM_ORDER_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	leak.Main(m)
}

// TestOrderContinuesAfterACrash runs the commands of docs/first-flow.md, and compares what they
// print with the page.
func TestOrderContinuesAfterACrash(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/first-flow.md")
	if err != nil {
		t.Fatal(err)
	}
	server := miniredis.RunT(t)
	server.ClockTTL(true) // so that the lease of the killed process ends
	for _, args := range [][]string{{"order-1", "crash"}, {"order-1"}, {"order-1"}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "REDIS_URL=redis://"+server.Addr())
		out, err := cmd.Output()
		if crashed := len(args) > 1; crashed != (err != nil) {
			t.Fatalf("order %v: %v\n%s", args, err, out)
		}
		command := "go run . " + strings.Join(args, " ") + "\n   ```\n\n   ```text\n   "
		want := command + strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "\n   ") + "\n"
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/first-flow.md does not have\n%s", want)
		}
	}
}
