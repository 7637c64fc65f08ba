package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestExitStatusSaysWhatFailed has lines that cannot be understood, which end with 2, keys that do
// not exist, which end with 3, and keys in a state that refuses the act.
func TestExitStatusSaysWhatFailed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for line, want := range map[string]string{
		"keys list --state=stuck":                                        "2",
		"keys list --output=xml":                                         "2",
		"keys list --cursor=garbage":                                     "2",
		"keys list --limit=-1":                                           "2",
		"keys list --redis=":                                             "2",
		"keys delete @idle --yes":                                        "2",
		"keys resolve @interrupted --status=99 --reason=r --yes":         "2",
		"dead requeue --rate=0 --reason=r --yes":                         "2",
		"scope purge acme --cursor=garbage --reason=r --yes":             "2",
		"keys show no-such-key":                                          "2",
		"keys show AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA":                     "3",
		"keys requeue @due --reason=r --yes":                             "1",
		"keys delete @in-flight --reason=r --yes":                        "1",
		"keys requeue AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA --reason=r --yes": "3",
	} {
		args := strings.Fields(line)
		for i, word := range args {
			if scope, ok := strings.CutPrefix(word, "@"); ok {
				args[i] = s.ids[scope]
			}
		}
		got := command(t, s.server.Addr(), "", args...)
		if !strings.HasSuffix(got, "[exit status "+want+"]\n") || strings.Contains(got, "continue with") || strings.Contains(got, "goroutine") {
			t.Errorf("%s prints\n%s, want exit status %s", line, got, want)
		}
	}
	for _, url := range []string{"REDIS_URL=", ""} { // empty, and absent
		cmd := exec.CommandContext(t.Context(), os.Args[0], "keys", "list") //nolint:gosec // this very binary
		cmd.Env = []string{program + "=1"}
		if url != "" {
			cmd.Env = append(cmd.Env, url)
		}
		if text, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(text), "--redis") {
			t.Errorf("with %q the status is %d: %s", url, cmd.ProcessState.ExitCode(), text)
		}
	}
}
