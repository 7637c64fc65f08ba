package main

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"
)

func TestEveryRungIsThere(t *testing.T) {
	for _, r := range tests {
		place := "../" + r.name
		if r.script != "" {
			place = "../../" + r.script
		}
		if _, err := os.Stat(place); err != nil {
			t.Error(err)
		}
	}
	folders, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		isRung := slices.ContainsFunc(tests, func(r test) bool { return r.name == f.Name() && r.script == "" })
		if f.IsDir() && !isRung && f.Name() != "internal" && f.Name() != "prove" {
			t.Errorf("%s is not a rung", f.Name())
		}
	}
}

// TestEachNightHasEveryRung compares the jobs of the nightly workflow with the rungs. A job ends
// after six hours at the latest, and gets the time to install what its rung needs.
func TestEachNightHasEveryRung(t *testing.T) {
	workflow, err := os.ReadFile("../../.github/workflows/nightly.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := "rung: [" + names() + "]"; !bytes.Contains(workflow, []byte(want)) {
		t.Errorf("the workflow lacks %q", want)
	}
	for _, r := range tests {
		if r.limit[1] > 320*time.Minute {
			t.Errorf("%s may take %v a night", r.name, r.limit[1])
		}
	}
}

func TestRungThatDoesNotEndSaysSo(t *testing.T) {
	late := test{name: "late", script: "scripts/fuzz.sh", limit: [3]time.Duration{-time.Minute}}
	if o := late.run(t.Context(), "change", 0); o.err == nil || o.err.Error() != "it did not end" {
		t.Errorf("the error is %v", o.err)
	}
}

func TestFiguresAreFoundAmongOtherOutput(t *testing.T) {
	output := "=== RUN TestX\nfigure R5: 300 kills: 0 lost\n    x_test.go:3: figure of speech\nfigure R6: 50 stops\nfigure\nPASS\n"
	want := []figure{{"R5", "300 kills: 0 lost"}, {"R6", "50 stops"}}
	if got := figures([]byte(output)); !slices.Equal(got, want) {
		t.Errorf("the figures are %v, want %v", got, want)
	}
}

func TestRungsAreChosenByName(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(tests) {
		t.Errorf("without names %d are chosen, %v", len(all), err)
	}
	if _, err := choose("sim,nothing"); err == nil {
		t.Error("a rung that does not exist was chosen")
	}
}
