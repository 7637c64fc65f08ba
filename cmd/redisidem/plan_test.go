package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// plan runs the plan command. It returns all that it prints, and whether it succeeds.
func plan(t *testing.T, flags ...string) (out string, succeeds bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"plan"}, flags...)...) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), program+"=1")
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}

func TestPlanNamesAFlagOutOfItsBounds(t *testing.T) {
	t.Parallel()
	for flag, bound := range map[string]string{
		"--rate=-1": "--rate: must be between 0 and 1e+09", "--rate=NaN": "--rate: must be", "--stages=0": "--stages: must be between 1 and 1000",
		"--retention=0s": "--retention: must be", "--busy=101": "--busy: must be between 1 and 100", "--callers=0": "--callers: must be",
	} {
		if out, ok := plan(t, "--rate=1", flag); ok || !strings.Contains(out, bound) || strings.Contains(out, "Masters") {
			t.Errorf("with %s it prints %q, and should name %q", flag, out, bound)
		}
	}
}

func TestPlanPrintsEachNeed(t *testing.T) {
	t.Parallel()
	out, ok := plan(t, "--rate=100000", "--retention=24h", "--body=500", "--callers=256")
	if !ok {
		t.Fatal(out)
	}
	for _, line := range []string{
		`Masters +\d`, `  by time +\d`, `  by memory +\d`, `  by network +\d`, `Records +8,640,000,000 `, `Round trips +2 `,
		`Under way +10,100 `, `Processes +40 `, `Connections +40 `,
	} {
		if !regexp.MustCompile("(?m)^" + line).MatchString(out) {
			t.Errorf("no line is %q:\n%s", line, out)
		}
	}
	if !strings.Contains(out, "more masters than one cluster has") {
		t.Errorf("nothing says that no cluster is that large:\n%s", out)
	}
}
