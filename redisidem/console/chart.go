package console

import (
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// The sizes of charts, in units of their own.
const (
	barWidth    = 100.0
	trendWidth  = 120.0
	trendHeight = 32.0
	maxHistory  = 120 // points of a trend
)

// bar is a part of a horizontal bar.
type bar struct{ X, Width float64 }

// newBars divides a bar by numbers. What is not 0 can be seen.
func newBars(numbers []int64) []bar {
	const least = 0.6
	var sum, shares float64
	for _, n := range numbers {
		sum += float64(n)
	}
	bars := make([]bar, len(numbers))
	for i, n := range numbers {
		if n > 0 {
			bars[i].Width = max(float64(n)/sum*barWidth, least)
		}
		shares += bars[i].Width
	}
	x := 0.0
	for i := range bars {
		if shares > 0 {
			bars[i].Width *= barWidth / shares
		}
		bars[i].X = x
		x += bars[i].Width
	}
	return bars
}

// trend is a number over time.
type trend struct {
	Name, Kind   string
	Last, Most   int64
	Line, Ground string // points of an SVG polyline, and of the polygon below it
}

// newTrend makes a trend of at least one number, oldest first.
func newTrend(name, kind string, numbers []int64) trend {
	t := trend{Name: name, Kind: kind, Last: numbers[len(numbers)-1]}
	for _, n := range numbers {
		t.Most = max(t.Most, n)
	}
	if len(numbers) == 1 {
		numbers = []int64{numbers[0], numbers[0]}
	}
	step := trendWidth / float64(len(numbers)-1)
	var line strings.Builder
	point := func(x, y float64) string {
		return strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64)
	}
	for i, n := range numbers {
		const edge = 2.0
		y := trendHeight - edge - float64(n)/float64(max(t.Most, 1))*(trendHeight-2*edge)
		line.WriteString(point(step*float64(i), y) + " ")
	}
	t.Line = strings.TrimSpace(line.String())
	t.Ground = point(0, trendHeight) + " " + t.Line + " " + point(trendWidth, trendHeight)
	return t
}

// history is the numbers of the last overviews, oldest first.
type history struct{ inFlight, attention, overdue []int64 }

func (h *history) add(s *redisidem.Stats) {
	keep := func(numbers []int64, n int64) []int64 {
		if len(numbers) == maxHistory {
			numbers = numbers[1:]
		}
		return append(numbers, n)
	}
	h.inFlight = keep(h.inFlight, s.States[redisidem.KeyInFlight].Count)
	h.attention = keep(h.attention, attention(s))
	h.overdue = keep(h.overdue, overdue(s))
}

func (h *history) trends() []trend {
	return []trend{
		newTrend("In flight", "in-flight", h.inFlight),
		newTrend("May need a decision", "dead", h.attention),
		newTrend("Overdue for a completer", "abandoned", h.overdue),
	}
}
