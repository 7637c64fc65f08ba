package httpidem_test

import (
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestNamesOfResultsAndDispositions(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for r := httpidem.ResultBypassed; r <= httpidem.ResultPanicked; r++ {
		if s := r.String(); s == "" || s == "invalid" || seen[s] {
			t.Errorf("result %d is %q", r, s)
		}
		seen[r.String()] = true
	}
	if httpidem.Result(0).String() != "invalid" || httpidem.Result(99).String() != "invalid" || httpidem.Disposition(0).String() != "invalid" {
		t.Error("an invalid value has a name")
	}
	if httpidem.DispositionKeep.String() != "keep" || httpidem.DispositionRelease.String() != "release" || httpidem.DispositionUnknown.String() != "unknown" {
		t.Error("dispositions have other names")
	}
}
