package table_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
)

func point(title string, callers int) result.Point {
	return result.Point{
		Contender: title, Title: title, Callers: callers, BodyBytes: 200,
		Samples: []result.Sample{{PerSecond: 1000, Latency: result.Latency{P50: 5, P99: 1500, P999: 2e6}}, {PerSecond: 1234567}},
		Cost:    result.Cost{RoundTrips: 2, BytesIn: 300},
	}
}

func scenario(t *testing.T, s *result.Scenario, measured bool) string {
	t.Helper()
	var b strings.Builder
	if err := table.Scenario(&b, s, measured, 0); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("there is no %q in\n%s", word, text)
		}
	}
}

func lacks(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(text, word) {
			t.Errorf("there is %q in\n%s", word, text)
		}
	}
}

func TestWhatIsTheSameInAllLinesStandsAbove(t *testing.T) {
	t.Parallel()
	one, two := point("one", 64), point("two", 64)
	one.Baseline = true
	two.Ratio = &result.Spread{Median: 2, Low: 1.5, High: 2.5}
	text := scenario(t, &result.Scenario{Title: "First", About: "About it.", Points: []result.Point{one, two}}, true)
	has(t, text, "First, 64 callers, 200 B responses\n", "ops/s", "2.00 (1.50-2.50)", "617 784", "trips", "B in")
	lacks(t, text, "callers  ", "B/record", "allocs", "correctness")

	two.Callers = 1
	text = scenario(t, &result.Scenario{Title: "First", Points: []result.Point{one, two}}, false)
	has(t, text, "First (correctness only), 200 B responses\n", "callers  ")
}

func TestNoRoundTripIsNoneAndNotUnknown(t *testing.T) {
	t.Parallel()
	copies, other := point("copies", 2), point("other", 2)
	copies.Cost = result.Cost{Allocations: 2}
	other.Cost = result.Cost{Blind: true, BytesIn: 70}
	text := scenario(t, &result.Scenario{Title: "First", Points: []result.Point{copies, other}}, true)
	for name, want := range map[string]string{"copies": "0 0 0 2", "other": "- 70 - -"} {
		for line := range strings.Lines(text) {
			if got := strings.Join(strings.Fields(line), " "); strings.HasPrefix(got, name) && !strings.HasSuffix(got, want) {
				t.Errorf("the costs are %q, want %q", got, want)
			}
		}
	}
	blind := point("blind", 2)
	blind.Cost = result.Cost{Blind: true}
	lacks(t, scenario(t, &result.Scenario{Title: "First", Points: []result.Point{blind}}, true), "trips", "B in")
}

func TestNarrowScreensGetSeveralTables(t *testing.T) {
	t.Parallel()
	one, two := point("HTTP, redisidem's middleware, auto-pipelined", 64), point("two", 64)
	two.Ratio = &result.Spread{Median: 2, Low: 1.5, High: 2.5}
	var b strings.Builder
	s := &result.Scenario{Title: "First", About: strings.Repeat("word ", 40), Points: []result.Point{one, two}}
	if err := table.Scenario(&b, s, true, 80); err != nil {
		t.Fatal(err)
	}
	has(t, b.String(), "ops/s", "2.00 (1.50-2.50)", "p99.9", "trips", "B in")
	titles := 0
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("the line does not fit: %q", line)
		}
		if strings.Contains(line, "HTTP") {
			titles++
		}
	}
	if titles < 2 {
		t.Errorf("a contender is named %d times in:\n%s", titles, b.String())
	}
}

func TestTimedScenariosShowNoThroughput(t *testing.T) {
	t.Parallel()
	text := scenario(t, &result.Scenario{Title: "Hand-over", Timed: true, Points: []result.Point{point("one", 1)}}, true)
	has(t, text, "Hand-over, 1 caller,", "p50", "p99.9")
	lacks(t, text, "ops/s", "ratio")
}

func TestOpenLoopsTellTheirRate(t *testing.T) {
	t.Parallel()
	p := point("one", 8)
	p.Rate, p.Baseline = 500, true
	has(t, scenario(t, &result.Scenario{Title: "First", Points: []result.Point{p}}, true), "open loop, 500 due per second")
}

// TestErrorsStandBelow checks that a long message does not widen a column.
func TestErrorsStandBelow(t *testing.T) {
	t.Parallel()
	failed, skipped := point("two", 64), point("three", 64)
	failed.Error, skipped.Error, skipped.Skipped = strings.Repeat("wrong ", 40)+"\nbytes", "needs a single server", true
	text := scenario(t, &result.Scenario{Title: "First", Points: []result.Point{point("one", 64), failed, skipped}}, true)
	has(t, text, "\ntwo: FAILED, 64 callers, 200 B responses: wrong", "wrong ; bytes\n", "\nthree: left out, 64 callers, 200 B responses: needs")
	for line := range strings.Lines(text) {
		if strings.Contains(line, "617 784") && len(line) > 120 {
			t.Errorf("the line is %d bytes long: %s", len(line), line)
		}
	}
}

func TestEmbeddedServerIsSaidToBeNoMeasurement(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	run := &result.Run{Machine: result.Machine{Server: "Redis 7.0.15"}}
	if err := table.Head(&b, run); err != nil {
		t.Fatal(err)
	}
	has(t, b.String(), table.NotMeasured)
	b.Reset()
	run.Measured = true
	if err := table.Head(&b, run); err != nil {
		t.Fatal(err)
	}
	lacks(t, b.String(), table.NotMeasured)
}

func TestFiguresSayPassOrShort(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := table.Figures(&b, []result.Figure{
		{Number: 1, Title: "throughput", Value: 3.5, Low: 3, High: 4, Bound: 3, Unit: "x", Pass: true},
		{Number: 2, Title: "time", Value: 1.2, Bound: 1.15, AtMost: true, Unit: "x"},
	}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	has(t, lines[0], "3.50 x (3.00-4.00)", "at least 3", "pass")
	has(t, lines[1], "1.20 x", "at most 1.15", "short")
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for us, want := range map[float64]string{0.5: "0.50 µs", 150: "150 µs", 1500: "1.5 ms", 2.5e6: "2.5 s"} {
		if got := table.Micros(us); got != want {
			t.Errorf("%v µs are %q", us, got)
		}
	}
	for f, want := range map[float64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := table.Count(f); got != want {
			t.Errorf("%v is %q", f, got)
		}
	}
}
