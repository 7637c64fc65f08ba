package main

import (
	"os"
	"slices"
	"testing"
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
		t.Error("a rung is chosen that is none")
	}
}
