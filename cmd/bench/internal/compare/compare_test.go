package compare

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// run makes a run with one point of so many operations per second, or of such p99s when the rate is not 0.
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

func TestCompareTellsChangeFromChance(t *testing.T) {
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
		{"TooFew", "redisidem", 0, []float64{100, 101, 102}, []float64{50, 51, 52}, false, []string{"~ (few)", "0.100 n=3+3", "at least 4 samples"}},
		{"Slower", "redisidem", 5000, hundred, []float64{200, 201, 202, 203, 204}, true, []string{"p99", "102 µs", "+98.0% worse", "at 5 000/s"}},
		{"Quicker", "redisidem", 5000, hundred, []float64{50, 51, 52, 53, 54}, false, []string{"p99", "-49.0%"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			worse, err := Compare(&out, run(test.contender, test.rate, test.a...), run(test.contender, test.rate, test.b...))
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

func TestCompareRefusesWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	good := run("redisidem", 0, 1, 2, 3)
	embedded, schema, failed := run("redisidem", 0, 1), run("redisidem", 0, 1), run("redisidem", 0, 1)
	embedded.Measured = false
	schema.Schema++
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
		{"OtherSchema", good, schema, ErrSchema},
		{"OtherContender", good, run("redislock", 0, 1), ErrNothingInCommon},
		{"OtherLoop", good, run("redisidem", 100, 1), ErrNothingInCommon},
		{"OtherBody", good, body, ErrNothingInCommon},
		{"OtherRecords", good, records, ErrNothingInCommon},
		{"Failed", good, failed, ErrNothingInCommon},
		{"Empty", good, &result.Run{Schema: result.Schema, Measured: true}, ErrNothingInCommon},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			worse, err := Compare(&out, test.a, test.b)
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
	var out bytes.Buffer
	if _, err := Compare(&out, a, b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Warning", "server: Redis 7.0.15, then Valkey 8.1", "cores: 2, then 8"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}

func TestCompareTellsOfAWriterThatFails(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for after := range 4 {
		a := run("redisidem", 0, 1, 2, 3)
		if _, err := Compare(&failing{after, gone}, a, a); !errors.Is(err, gone) {
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

// The p-values are those of R's wilcox.test(a, b, exact = TRUE).
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
