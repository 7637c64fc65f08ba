package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestHelpIsAllThatIsDone(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"--help", "gateway --help", "check --redis=redis://127.0.0.1:1 --help"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(line)...) //nolint:gosec // this very binary
			cmd.Env = append(os.Environ(), program+"=1")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil || stderr.Len() > 0 {
				t.Errorf("it ends with %v, and says %s", err, stderr.String())
			}
			if n := strings.Count(string(out), "Usage: redisidem"); n != 1 {
				t.Errorf("help is printed %d times:\n%s", n, out)
			}
		})
	}
}
