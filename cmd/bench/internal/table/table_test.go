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
	if err := table.Head(&b, run, 0); err != nil {
		t.Fatal(err)
	}
	has(t, b.String(), table.NotMeasured)
	b.Reset()
	run.Measured = true
	if err := table.Head(&b, run, 0); err != nil {
		t.Fatal(err)
	}
	lacks(t, b.String(), table.NotMeasured)
}

func TestFiguresSayPassOrShort(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	figures := []result.Figure{
		{Number: 1, Title: "throughput", Value: 3.5, Low: 3, High: 4, Bound: 3, Unit: "x", Pass: true},
		{Number: 2, Title: "time", Value: 1.2, Bound: 1.15, AtMost: true, Unit: "x"},
	}
	if err := table.Figures(&b, figures, table.PageWidth); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	has(t, lines[0], "3.50 x (3.00-4.00)", "at least 3", "pass")
	has(t, lines[1], "1.20 x", "at most 1.15", "short")

	b.Reset()
	figures[0].Title = strings.Repeat("long ", 12) + "title"
	if err := table.Figures(&b, figures, table.PageWidth); err != nil {
		t.Fatal(err)
	}
	fits(t, b.String())
	has(t, strings.Split(b.String(), "\n")[1], "3.50 x (3.00-4.00)", "at least 3", "pass")
}

// fits checks the width of each line.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > table.PageWidth {
			t.Errorf("the line has %d columns: %s", n, line)
		}
	}
}

func TestPromisesSayWhatIsBroken(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	promise := func(title string, runs int, first, last result.Late) result.Promise {
		return result.Promise{Title: title, Callers: 16, Runs: runs, Answers: runs, LateFirst: first, LateLast: last}
	}
	if err := table.Promises(&b, []result.Promise{
		promise("ours", 1, result.LateRefused, result.LateRefused),
		promise("twice", 2, result.LateRefused, result.LateRefused),
		promise("first", 1, result.LateStored, result.LateRefused),
		promise("last", 1, result.LateUnaware, result.LateStored),
		promise("both", 2, result.LateStored, result.LateStored),
		promise("unaware", 1, result.LateRefused, result.LateUnaware),
		{Title: "absent", Error: "no address", Skipped: true},
		{Title: "failed", Error: "a\nb"},
	}, table.PageWidth); err != nil {
		t.Fatal(err)
	}
	has(t, b.String(), "16 callers", "kept    ours\n",
		"broken  twice: the request ran 2 times, with 2 different answers\n",
		"broken  first: the late worker's answer is stored if it is ready first, and the holder's is lost\n",
		"broken  last: the late worker's answer replaces the stored one\n",
		"in place of the holder's", "broken  unaware: the late worker gets no error\n",
		"-       absent: left out: no address\n", "FAILED  failed: a; b\n")
	fits(t, b.String())
}

func TestTextsFitAPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	run := &result.Run{Machine: result.Machine{
		Server: "Redis 7.0.15", Topology: "standalone", OS: "linux/amd64", CPU: strings.Repeat("A Long Name of a Processor ", 4),
		Version: "0123456789ab with changes", LoadBefore: 1, LoadAfter: 2,
	}}
	for _, write := range []func() error{
		func() error { return table.Head(&b, run, table.PageWidth) },
		func() error { return table.Foot(&b, run, table.PageWidth) },
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	has(t, b.String(), "0123456789ab with changes", "load 1.0 before and 2.0 at the end")
	fits(t, b.String())
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
