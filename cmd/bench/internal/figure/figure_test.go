package figure

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// TestEveryFigureIsMeasured measures all figures, too briefly for meaningful values.
func TestEveryFigureIsMeasured(t *testing.T) { // not parallel: it sets GOMAXPROCS
	rediscase.Need(t)
	stepped := 0
	plan := Plan{Duration: 20 * time.Millisecond, Repetitions: 1, Records: 10_000, Counted: 300, Step: func(string) { stepped++ }}
	figures, server, err := Measure(context.Background(), plan)
	if server == nil {
		t.Fatal(err)
	}
	defer server.Stop()
	_, missing := exec.LookPath("valgrind")
	if errors.Is(err, errNoValgrind) != (missing != nil) || err != nil && missing == nil {
		t.Fatal(err)
	}
	parts := make(map[int]int)
	for _, f := range figures {
		parts[f.Number]++
		if f.Value <= 0 || f.Low > f.Value || f.Value > f.High || f.Bound <= 0 {
			t.Errorf("the figure is %+v", f)
		}
	}
	for n := range Count {
		if parts[n+1] == 0 && (n+1 != 10 || missing == nil) {
			t.Errorf("there is no figure %d", n+1)
		}
	}
	if stepped != plan.Steps() {
		t.Errorf("Step was called %d times, Steps returned %d", stepped, plan.Steps())
	}
}

func TestInterruptedFiguresAreNotLost(t *testing.T) {
	rediscase.Need(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stepped := 0
	plan := Plan{Duration: 5 * time.Millisecond, Repetitions: 1, Only: []int{2, 7}, Step: func(string) {
		stepped++
		if stepped == 2 {
			cancel()
		}
	}}
	figures, server, err := Measure(ctx, plan)
	if server == nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if len(figures) != 1 || figures[0].Number != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", figures, err)
	}
}

func TestOnlyTheChosenFiguresAreMeasured(t *testing.T) {
	rediscase.Need(t)
	stepped := 0
	plan := Plan{Duration: 5 * time.Millisecond, Repetitions: 1, Only: []int{2, 7}, Step: func(string) { stepped++ }}
	figures, server, err := Measure(context.Background(), plan)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	if len(figures) != 4 || figures[0].Number != 2 || figures[3].Number != 7 || stepped != 3 || plan.Steps() != 3 {
		t.Errorf("%d steps of %d, %+v", stepped, plan.Steps(), figures)
	}
}

func TestSampleWithNothingFinishedIsNone(t *testing.T) {
	t.Parallel()
	var tried []time.Duration
	slow := contestant(func(_ context.Context, d time.Duration) (float64, error) {
		tried = append(tried, d)
		return float64(d / (4 * time.Millisecond)), nil
	})
	if got, err := slow.sample(t.Context(), time.Millisecond); err != nil || got != 1 || len(tried) != 3 {
		t.Errorf("the sample is %v, %v after %v", got, err, tried)
	}
	dead := contestant(func(context.Context, time.Duration) (float64, error) { return 0, nil })
	if got, err := dead.sample(t.Context(), time.Millisecond); err == nil {
		t.Errorf("the sample of nothing is %v", got)
	}
}

func TestBoundsAreInclusive(t *testing.T) {
	t.Parallel()
	var m measurement
	for _, c := range []struct {
		value, bound float64
		atMost, pass bool
	}{
		{3, 3, false, true},
		{2.99, 3, false, false},
		{4, 3, false, true},
		{20, 20, true, true},
		{20.1, 20, true, false},
		{1, 20, true, true},
	} {
		m.add(1, "", result.Spread{Median: c.value}, c.bound, c.atMost, "x")
		if f := m.figures[len(m.figures)-1]; f.Pass != c.pass {
			t.Errorf("%v against %v (at most: %v) passes: %v", c.value, c.bound, c.atMost, f.Pass)
		}
	}
}

func TestRatiosAreOfTheSameTurn(t *testing.T) {
	t.Parallel()
	if got := ratio([]float64{10, 40, 90}, []float64{10, 20, 30}); got != (result.Spread{Median: 2, Low: 1, High: 3}) {
		t.Errorf("the ratio is %+v", got)
	}
}
