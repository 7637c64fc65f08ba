package compare

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// run makes a run with one point. The values are operations per second, or p99s if the rate is not
// 0.
func run(contender string, rate float64, values ...float64) *result.Run {
	p := result.Point{Contender: contender, Title: contender, Own: contender != "redislock", Callers: 64, BodyBytes: 200, Rate: rate}
	p.Cost = result.Cost{ServerCPU: 12.5, Allocations: 40, AllocBytes: 4096}
	for _, v := range values {
		s := result.Sample{PerSecond: v}
		if rate > 0 {
			s = result.Sample{PerSecond: rate, Latency: result.Latency{P99: v}}
		}
		p.Samples = append(p.Samples, s)
	}
	return &result.Run{
		Schema: result.Schema, Measured: true, Machine: result.Machine{Server: "Redis 7.0.15", Topology: "standalone", Cores: 2},
		Scenarios: []result.Scenario{{Name: "lifecycle", Title: "First execution", Points: []result.Point{p}}},
	}
}

func TestCompareDistinguishesChangeFromChance(t *testing.T) {
	t.Parallel()
	hundred := []float64{100, 101, 102, 103, 104}
	for _, test := range []struct {
		name      string
		contender string
		rate      float64
		a, b      []float64
		worse     bool
		want      []string
	}{
		{"Same", "redisidem", 0, hundred, hundred, false, []string{"~", "1.000 n=5+5"}},
		{"AllEqual", "redisidem", 0, []float64{7, 7, 7, 7}, []float64{7, 7, 7, 7}, false, []string{"~", "1.000 n=4+4"}},
		{"Halved", "redisidem-auto", 0, hundred, []float64{50, 51, 49, 52, 48}, true, []string{"-51.0% worse", "0.008 n=5+5", "redisidem lost"}},
		{"HalvedMiddleware", "http-redisidem", 0, hundred, []float64{50, 51, 49, 52, 48}, true, []string{"-51.0% worse"}},
		{"HalvedGateway", "gateway", 0, hundred, []float64{50, 51, 49, 52, 48}, true, []string{"-51.0% worse"}},
		{"HalvedRival", "redislock", 0, hundred, []float64{50, 51, 49, 52, 48}, false, []string{"-51.0%"}},
		{"Doubled", "redisidem", 0, hundred, []float64{204, 203, 205, 206, 202}, false, []string{"+100.0%"}},
		{"LittleLess", "redisidem", 0, hundred, []float64{97, 98, 99, 98.5, 97.5}, false, []string{"-3.9%"}},
		{"Overlapping", "redisidem", 0, hundred, []float64{60, 61, 102.5, 105, 106}, false, []string{"~"}},
		{"TooFew", "redisidem", 0, []float64{100, 101, 102}, []float64{50, 51, 52}, false, []string{"~ (few)", "0.100 n=3+3", "fewer than 4 samples"}},
		{"Slower", "redisidem", 5000, hundred, []float64{200, 201, 202, 203, 204}, true, []string{"p99", "102 µs", "+98.0% worse", "at 5 000/s"}},
		{"Quicker", "redisidem", 5000, hundred, []float64{50, 51, 52, 53, 54}, false, []string{"p99", "-49.0%"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			worse, err := Compare(&out, 0, run(test.contender, test.rate, test.a...), run(test.contender, test.rate, test.b...))
			if err != nil {
				t.Fatal(err)
			}
			if worse != test.worse {
				t.Errorf("worse is %v, want %v", worse, test.worse)
			}
			for _, want := range append(test.want, "First execution", "12.5 > 12.5", "4096 > 4096") {
				if !strings.Contains(out.String(), want) {
					t.Errorf("there is no %q in:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "worse\n") && !worse || strings.Contains(out.String(), "Warning") {
				t.Errorf("too much is said:\n%s", out.String())
			}
		})
	}
}

// with adds the points of another contender to a run. It is the baseline, the divisor of both
// ratios.
func with(r, base *result.Run) *result.Run {
	p := base.Scenarios[0].Points[0]
	p.Baseline = true
	r.Scenarios[0].Points = append([]result.Point{p}, r.Scenarios[0].Points...)
	return r
}

func compared(t *testing.T, a, b *result.Run) (worse bool, said string) {
	t.Helper()
	var out bytes.Buffer
	worse, err := Compare(&out, 0, a, b)
	if err != nil {
		t.Fatal(err)
	}
	return worse, out.String()
}

// TestSlowerMachineIsNotWorse halves the speed of all contenders in the second run. It then halves
// the speed of this library alone.
func TestSlowerMachineIsNotWorse(t *testing.T) {
	t.Parallel()
	base, own := []float64{1000, 1400, 900, 1200, 1100, 800}, []float64{2010, 2790, 1800, 2420, 2190, 1600}
	halved := func(values []float64) []float64 {
		half := make([]float64, len(values))
		for i, v := range values {
			half[i] = v/2 + float64(i)
		}
		return half
	}
	a := with(run("redisidem", 0, own...), run("redislock", 0, base...))
	worse, said := compared(t, a, with(run("redisidem", 0, halved(own)...), run("redislock", 0, halved(base)...)))
	if worse || !strings.Contains(said, "ops/s ratio") || !strings.Contains(said, "2 100 > 1 052") {
		t.Errorf("a slower machine is worse: %v\n%s", worse, said)
	}
	if worse, said := compared(t, a, with(run("redisidem", 0, halved(own)...), run("redislock", 0, base...))); !worse {
		t.Errorf("half the baseline's speed is not reported as a loss:\n%s", said)
	}
	// The first run has a different baseline, so there is no ratio.
	other := with(run("redisidem", 0, halved(own)...), run("redsync", 0, halved(base)...))
	if worse, said := compared(t, a, other); !worse || strings.Contains(said, "ratio  ") {
		t.Errorf("different baselines: %v\n%s", worse, said)
	}
}

// TestTimedScenariosAreComparedByLatency has operations whose throughput is meaningless.
func TestTimedScenariosAreComparedByLatency(t *testing.T) {
	t.Parallel()
	timed := func(p99 ...float64) *result.Run {
		r := run("redisidem-wait", 0, p99...)
		r.Scenarios[0].Timed = true
		for i, v := range p99 {
			r.Scenarios[0].Points[0].Samples[i] = result.Sample{PerSecond: 45, Latency: result.Latency{P99: v}}
		}
		return r
	}
	a, b := timed(100, 101, 102, 103, 104), timed(1000, 1001, 1002, 1003, 1004)
	if worse, said := compared(t, a, b); !worse || !strings.Contains(said, "p99") || !strings.Contains(said, "102 µs") {
		t.Errorf("ten times the latency is worse: %v\n%s", worse, said)
	}
	if worse, said := compared(t, b, a); worse {
		t.Errorf("a tenth of the latency is worse:\n%s", said)
	}
}

func TestWhatWasMeasuredBeforeIsMissed(t *testing.T) {
	t.Parallel()
	two := func(contender string) *result.Run {
		return with(run(contender, 0, 5, 6, 7), run("redislock", 0, 1, 2, 3))
	}
	fails := func(r *result.Run, point int, skipped bool) *result.Run {
		p := &r.Scenarios[0].Points[point]
		p.Samples, p.Error, p.Skipped = nil, "wrong\nbytes", skipped
		return r
	}
	for _, test := range []struct {
		name  string
		b     *result.Run
		worse bool
		want  string
	}{
		{"OwnFails", fails(two("redisidem"), 1, false), true, "redisidem (First execution, 64 callers, 200 B) FAILED: wrong; bytes"},
		{"RivalFails", fails(two("redisidem"), 0, false), false, "redislock (First execution, 64 callers, 200 B) FAILED"},
		{"OwnIsLeftOut", fails(two("redisidem"), 1, true), false, "is left out now: wrong"},
		{"OwnIsNotThere", run("redislock", 0, 1, 2, 3), false, "redisidem (First execution, 64 callers, 200 B) is not measured now"},
		{"OnlyTheFailureIsThere", fails(run("redisidem", 0, 1), 0, false), true, "FAILED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if worse, said := compared(t, two("redisidem"), test.b); worse != test.worse || !strings.Contains(said, test.want) {
				t.Errorf("worse is %v, and there is no %q in:\n%s", worse, test.want, said)
			}
		})
	}
	if _, said := compared(t, fails(two("redisidem"), 1, false), two("redisidem")); strings.Contains(said, "no more") {
		t.Errorf("a point that failed before is missed:\n%s", said)
	}
}

// TestEqualBuildsSeldomDiffer compares runs of the same speed, with many points, on a noisy
// machine.
func TestEqualBuildsSeldomDiffer(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	machine := func() *result.Run {
		r := run("redislock", 0, 1)
		r.Scenarios = nil
		speed := 1000 * (1 + 0.3*rnd.Float64()) // of the machine in this run
		for range 14 {
			points := make([]result.Point, 2)
			for i := range points {
				points[i] = result.Point{Contender: [...]string{"redislock", "redisidem"}[i], Baseline: i == 0, Own: i == 1}
				for range 9 {
					points[i].Samples = append(points[i].Samples, result.Sample{PerSecond: speed * (1 + 0.1*rnd.NormFloat64())})
				}
			}
			r.Scenarios = append(r.Scenarios, result.Scenario{Name: string(rune('a' + len(r.Scenarios))), Points: points})
		}
		return r
	}
	const trials = 100
	found := 0
	for range trials {
		if worse, _ := compared(t, machine(), machine()); worse {
			found++
		}
	}
	if found > trials/20 {
		t.Errorf("%d of %d equal builds are worse", found, trials)
	}
}

func TestHolm(t *testing.T) {
	t.Parallel()
	// These values are the results of R's p.adjust with the method "holm".
	if got := holm([]float64{0.01, 0.04, 0.03, 0.005}); !slices.Equal(got, []float64{0.03, 0.06, 0.06, 0.02}) {
		t.Errorf("corrected to %v", got)
	}
	if got := holm([]float64{0.9, 0.8}); !slices.Equal(got, []float64{1, 1}) {
		t.Errorf("corrected to %v", got)
	}
	if got := holm(nil); len(got) != 0 {
		t.Errorf("nothing is corrected to %v", got)
	}
}

func TestSomeSamplesAreTooFew(t *testing.T) {
	t.Parallel()
	for points, want := range map[int]int{1: 4, 2: 5, 20: 6, 100: 8, 1000: 9} {
		if got := enough(points); got != want {
			t.Errorf("%d points take %d samples, want %d", points, got, want)
		}
	}
	if got := clearest(5, 5); math.Abs(got-chance([]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10})) > 1e-12 {
		t.Errorf("the clearest difference has p = %v", got)
	}
}

func TestCompareRefusesWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	good := run("redisidem", 0, 1, 2, 3)
	embedded, rival, failed := run("redisidem", 0, 1), run("redislock", 0, 1), run("redislock", 0, 1)
	embedded.Measured = false
	failed.Scenarios[0].Points[0].Error = "connection refused"
	body, records := run("redisidem", 0, 1), run("redisidem", 0, 1)
	body.Scenarios[0].Points[0].BodyBytes++
	records.Scenarios[0].Points[0].Records = 10_000
	for _, test := range []struct {
		name string
		a, b *result.Run
		want error
	}{
		{"FirstNotMeasured", embedded, good, ErrNotMeasured},
		{"SecondNotMeasured", good, embedded, ErrNotMeasured},
		{"OtherContender", good, run("redislock", 0, 1), ErrNothingInCommon},
		{"OtherLoop", good, run("redisidem", 100, 1), ErrNothingInCommon},
		{"OtherBody", good, body, ErrNothingInCommon},
		{"OtherRecords", good, records, ErrNothingInCommon},
		{"FailedRival", rival, failed, ErrNothingInCommon},
		{"Empty", good, &result.Run{Schema: result.Schema, Measured: true}, ErrNothingInCommon},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			worse, err := Compare(&out, 0, test.a, test.b)
			if !errors.Is(err, test.want) || worse || out.Len() > 0 {
				t.Errorf("got %v, %v and %q, want %v", worse, err, out.String(), test.want)
			}
		})
	}
}

func TestCompareWarnsOfOtherConditions(t *testing.T) {
	t.Parallel()
	a, b := run("redisidem", 0, 1, 2, 3), run("redisidem", 0, 1, 2, 3)
	b.Machine.Server, b.Machine.Cores = "Valkey 8.1", 8
	b.Latency, b.SampleSeconds, b.Incomplete = 2, 0.5, true
	var out bytes.Buffer
	if _, err := Compare(&out, 0, a, b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Warning", "server: Redis 7.0.15, then Valkey 8.1", "cores: 2, then 8",
		"added latency: 0 ms, then 2 ms", "length of a sample: 0 s, then 0.5 s", "the second run was interrupted",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}

func TestCompareReportsAWriterThatFails(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for after := range 4 {
		a := run("redisidem", 0, 1, 2, 3)
		if _, err := Compare(&failing{after, gone}, 0, a, a); !errors.Is(err, gone) {
			t.Errorf("after %d writes: %v", after, err)
		}
	}
}

// failing is a writer that fails after some writes.
type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	f.left--
	if f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestChance compares with the p-values of R's wilcox.test(a, b, exact = TRUE).
func TestChance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 0.02857142857},
		{[]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 0.00793650794},
		{[]float64{1, 3, 5, 7}, []float64{2, 4, 6, 8}, 0.68571428571},
		{nil, []float64{1}, 1},
	} {
		if got := chance(test.a, test.b); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%v and %v: %v, want %v", test.a, test.b, got, test.want)
		}
	}
}
