package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestManualHasTheWholeCommandLine compares the page with the commands and flags of the parser.
func TestManualHasTheWholeCommandLine(t *testing.T) {
	t.Parallel()
	page := command(t, "", "", "man")
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		t.Fatal(err)
	}
	flags := 0
	for _, leaf := range parser.Model.Leaves(true) {
		if !strings.Contains(page, "\n.SS "+roff("redisidem "+leaf.Summary())+"\n") {
			t.Errorf("the page lacks %s", leaf.Summary())
		}
		for _, group := range append([][]*kong.Flag{leaf.Flags}, leaf.Parent.Flags) {
			for _, flag := range group {
				flags++
				if !flag.Hidden && flag.Name != "help" && !strings.Contains(page, "\n.B "+roff(flag.String())+"\n") {
					t.Errorf("the page lacks %s of %s", flag.String(), leaf.Summary())
				}
			}
		}
	}
	if flags < 50 {
		t.Errorf("%d flags", flags)
	}
}

// TestManualIsValid formats the page with groff's warnings on, if man is installed.
func TestManualIsValid(t *testing.T) {
	t.Parallel()
	groff := requireProgram(t, "groff")
	cmd := exec.CommandContext(t.Context(), groff, "-Kutf8", "-man", "-Tutf8", "-ww") //nolint:gosec // a program of the system
	cmd.Stdin = strings.NewReader(command(t, "", "", "man"))
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 || len(out) == 0 {
		t.Errorf("%v: %s", err, warnings.String())
	}
}

func TestTextOfTheManualIsNoFormat(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"--redis=URL": `\-\-redis=URL`, `a\b`: `a\eb`, ".TH": `\&.TH`, "'quoted'": `\&'quoted'`, "plain": "plain",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
