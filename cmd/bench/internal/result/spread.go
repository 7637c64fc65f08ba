package result

import "slices"

// SpreadOf returns the median, the lowest and the highest of values. It returns zero if values is
// empty.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (middle + v[len(v)/2-1]) / 2
	}
	return Spread{Median: middle, Low: v[0], High: v[len(v)-1]}
}

// Throughput returns the spread of a point's operations per second.
func (p *Point) Throughput() Spread {
	return spread(p.Samples, func(s Sample) float64 { return s.PerSecond })
}

// Latency returns the spread of one kind of a point's latencies, in microseconds.
func (p *Point) Latency(which func(Latency) float64) Spread {
	return spread(p.Samples, func(s Sample) float64 { return which(s.Latency) })
}

func spread(samples []Sample, value func(Sample) float64) Spread {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return SpreadOf(values)
}
