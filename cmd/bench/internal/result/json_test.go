package result_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

func TestRunIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.json")
	want := &result.Run{
		Schema: result.Schema, Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 1.5, Command: []string{"run"}, Measured: true,
		Scenarios: []result.Scenario{{
			Name: "handover", Timed: true,
			Points: []result.Point{
				{Contender: "a", Baseline: true, Callers: 2, Samples: []result.Sample{{Operations: 7, PerSecond: 3.5}}},
				{Contender: "b", Ratio: &result.Spread{Median: 2, Low: 1, High: 3}},
				{Contender: "c", Error: "needs another server", Skipped: true},
			},
		}},
		Figures: []result.Figure{{Number: 1, Value: 3, Pass: true}},
	}
	if err := result.Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := result.Read(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestOtherSchemasAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.json")
	for text, reason := range map[string]string{`{"schema": 99}`: "99", `{}`: "schema", `[`: "unexpected"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := result.Read(path); err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := result.Read(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   result.Spread
	}{
		{nil, result.Spread{}},
		{[]float64{4}, result.Spread{Median: 4, Low: 4, High: 4}},
		{[]float64{9, 1, 2}, result.Spread{Median: 2, Low: 1, High: 9}},
		{[]float64{9, 1, 2, 4}, result.Spread{Median: 3, Low: 1, High: 9}},
	} {
		if got := result.SpreadOf(c.values); got != c.want {
			t.Errorf("the spread of %v is %+v", c.values, got)
		}
	}
}
