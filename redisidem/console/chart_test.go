package console

import (
	"math"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestBarsFillTheWidth(t *testing.T) {
	t.Parallel()
	bars := newBars([]int64{0, 1, 1_000_000, 0, 3})
	x := 0.0
	for i, b := range bars {
		if math.Abs(b.X-x) > 1e-9 || (i == 0 || i == 3) != (b.Width == 0) {
			t.Errorf("bar %d is %+v, and the last one ends at %v", i, b, x)
		}
		x += b.Width
	}
	if math.Abs(x-100) > 1e-9 || bars[1].Width < 0.5 {
		t.Errorf("%+v", bars)
	}
	for _, b := range newBars([]int64{0, 0}) {
		if b != (bar{}) {
			t.Errorf("without keys: %+v", b)
		}
	}
}

func TestTrendsAreOfTheLastNumbers(t *testing.T) {
	t.Parallel()
	var h history
	for i := range 150 {
		h.add(&redisidem.Stats{
			States: map[redisidem.KeyState]redisidem.Estimate{redisidem.KeyInFlight: {Count: int64(i)}, redisidem.KeyDead: {Count: 3}, redisidem.KeyInterrupted: {Count: 1}},
			Flows:  []redisidem.FlowIndex{{Overdue: 4, Dead: 3}, {Overdue: 1}},
		})
		if i == 0 {
			if first := h.trends()[1]; first.Line != "0.0,2.0 120.0,2.0" || first.Ground != "0.0,32.0 0.0,2.0 120.0,2.0 120.0,32.0" {
				t.Errorf("of one number: %+v", first)
			}
		}
	}
	all := h.trends()
	if all[0].Last != 149 || all[0].Most != 149 || all[1].Last != 4 || all[2].Last != 5 {
		t.Errorf("%+v", all)
	}
	if points := strings.Fields(all[0].Line); len(points) != 120 || !strings.HasPrefix(points[0], "0.0,") || points[119] != "120.0,2.0" {
		t.Errorf("the line is %s", all[0].Line)
	}
}
