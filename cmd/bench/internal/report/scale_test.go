package report

import (
	"slices"
	"testing"
)

func TestScales(t *testing.T) {
	t.Parallel()
	s, ticks := fromZero(56_983, 0, 100)
	if want := []float64{0, 20_000, 40_000, 60_000}; !slices.Equal(ticks, want) || s.at(30_000) != 50 || s.at(1e9) != 100 {
		t.Errorf("%v %+v", ticks, s)
	}
	s, ticks = logarithmic(1, 1000, 0, 100)
	if !slices.Equal(ticks, []float64{1, 10, 100, 1000}) || s.at(31.6227766) != 50 {
		t.Errorf("%v %v", ticks, s.at(31.6227766))
	}
	if _, ticks = logarithmic(0, 0, 0, 1); len(ticks) == 0 {
		t.Error("nothing has no axis")
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		count(1234567): "1\u202f234\u202f567", count(999): "999", count(-1000): "−1\u202f000",
		number(0.123): "0.12", number(12.34): "12.3", number(7): "7", number(1234.5): "1\u202f234",
		micros(12.5): "12.5\u202fµs", micros(1500): "1.50\u202fms", micros(2.5e6): "2.50\u202fs", micros(999.9): "1.00\u202fms",
		size(100): "100\u202fB", size(65536): "64\u202fKiB", size(1 << 20): "1\u202fMiB", times(2): "2.00\u202f×", short(0.25): "0.25",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
