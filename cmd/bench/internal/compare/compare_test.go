package compare_test

import (
	"strings"
	"testing"

	"github.com/redisidem/redisidem/cmd/bench/internal/compare"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// run makes a run with one point whose samples have these throughputs, in a thousand per second, and latencies.
func run(contender string, rate float64, values ...float64) *result.Run {
	p := result.Point{Contender: contender, Callers: 64, Rate: rate}
	for _, v := range values {
		p.Samples = append(p.Samples, result.Sample{PerSecond: 1000 * v, Latency: result.Latency{P99: v}})
	}
	return &result.Run{Schema: result.Schema, Measured: true, Scenarios: []result.Scenario{{Name: "lifecycle", Points: []result.Point{p}}}}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	const ours = "redisidem"
	for _, c := range []struct {
		name   string
		a, b   *result.Run
		worse  bool
		change string
	}{
		{"much slower", run(ours, 0, 10, 11, 12, 10.5, 11.5), run(ours, 0, 5, 5.5, 6, 5.2, 5.8), true, "-50.0%"},
		{"much faster", run(ours, 0, 5, 5.5, 6, 5.2, 5.8), run(ours, 0, 10, 11, 12, 10.5, 11.5), false, "+100.0%"},
		{"noise", run(ours, 0, 10, 11, 12, 10.5, 11.5), run(ours, 0, 10.2, 10.8, 12.1, 10.4, 11.6), false, "~"},
		{"a little slower", run(ours, 0, 10, 10.01, 10.02, 10.03, 10.04), run(ours, 0, 9.8, 9.81, 9.82, 9.83, 9.84), false, "-2.0%"},
		{"too few", run(ours, 0, 10, 11), run(ours, 0, 5, 6), false, "too few samples"},
		{"slower in an open loop", run(ours, 100, 5, 5.5, 6, 5.2, 5.8), run(ours, 100, 10, 11, 12, 10.5, 11.5), true, "+100.0%"},
		{"a rival is slower", run("redislock", 0, 10, 11, 12, 10.5, 11.5), run("redislock", 0, 5, 5.5, 6, 5.2, 5.8), false, "-50.0%"},
	} {
		var text strings.Builder
		worse, err := compare.Compare(&text, c.a, c.b)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if worse != c.worse || !strings.Contains(text.String(), c.change) {
			t.Errorf("%s: worse is %v, and the text\n%s", c.name, worse, &text)
		}
	}
}

func TestRunsThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	embedded := run("redisidem", 0, 1)
	embedded.Measured = false
	for name, b := range map[string]*result.Run{"no measurement": embedded, "no point in common": run("redisidem", 7, 1)} {
		if _, err := compare.Compare(&strings.Builder{}, run("redisidem", 0, 1), b); err == nil || !strings.Contains(err.Error(), strings.Fields(name)[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
