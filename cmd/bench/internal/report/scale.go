package report

import "math"

// scale maps values to positions on an axis.
type scale struct {
	low, high float64 // values
	from, to  float64 // positions
	log       bool
}

// at returns the position of a value, rounded to a tenth. It moves values outside the range to its
// ends.
func (s scale) at(v float64) float64 {
	v = min(max(v, s.low), s.high)
	part := 0.0
	switch {
	case s.high <= s.low:
	case s.log:
		part = math.Log(v/s.low) / math.Log(s.high/s.low)
	default:
		part = (v - s.low) / (s.high - s.low)
	}
	return tenth(s.from + part*(s.to-s.from))
}

func tenth(f float64) float64 { return math.Round(f*10) / 10 }

// fromZero returns a scale from 0 to a round number that is at least highest, with the round
// numbers on it.
func fromZero(highest, from, to float64) (s scale, ticks []float64) {
	if highest <= 0 {
		highest = 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(highest)))
	step := unit
	for _, f := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if step = unit * f; math.Ceil(highest/step) <= 5 {
			break
		}
	}
	n := math.Ceil(highest/step - 1e-9)
	ticks = make([]float64, 0, int(n)+1)
	for i := 0.0; i <= n; i++ {
		ticks = append(ticks, i*step)
	}
	return scale{low: 0, high: n * step, from: from, to: to}, ticks
}

// logarithmic returns a logarithmic scale that contains both values, with the round numbers on it.
func logarithmic(low, high, from, to float64) (s scale, ticks []float64) {
	if low <= 0 || high < low {
		low, high = 1, max(10, high)
	}
	s = scale{low: low / 1.15, high: high * 1.15, from: from, to: to, log: true}
	factors := []float64{1}
	switch decades := math.Log10(s.high / s.low); {
	case decades < 0.4:
		factors = []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8}
	case decades < 0.9:
		factors = []float64{1, 1.5, 2, 3, 4, 5, 7}
	case decades < 2:
		factors = []float64{1, 2, 5}
	case decades < 3:
		factors = []float64{1, 3}
	}
	for e := math.Floor(math.Log10(s.low)); e <= math.Log10(s.high); e++ {
		for _, f := range factors {
			if v := f * math.Pow(10, e); v >= s.low && v <= s.high {
				ticks = append(ticks, v)
			}
		}
	}
	return s, ticks
}
