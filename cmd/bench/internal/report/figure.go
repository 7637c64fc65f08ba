package report

import "github.com/redisidem/redisidem/cmd/bench/internal/result"

// figureWidth is the width of a figure's drawing.
const figureWidth = 320

// figure is one of the project's figures.
type figure struct {
	Number         int
	Title          string
	Value, Range   string
	Bound, Verdict string
	Class          string // pass, short or empty
	Passed         bool
	// The drawing shows the length of the bar, the spread, and the bound.
	Bar, Low, High, BoundAt float64
	Tip                     string
}

func newFigure(f *result.Figure, measured bool) figure {
	sign := "at least "
	if f.AtMost {
		sign = "at most "
	}
	with := func(v float64) string { return number(v) + thin + f.Unit }
	v := figure{Number: f.Number, Title: f.Title, Bound: sign + with(f.Bound), Verdict: "short", Class: "short"}
	switch {
	case !measured:
		v.Verdict, v.Class = "not measured", "unknown"
	case f.Pass:
		v.Verdict, v.Class, v.Passed = "pass", "pass", true
	}
	v.Value = with(f.Value)
	if f.High > f.Low {
		v.Range = number(f.Low) + " to " + number(f.High)
	}
	s := scale{low: 0, high: 1.1 * max(f.High, f.Value, f.Bound), from: 0, to: figureWidth}
	v.Bar, v.Low, v.High, v.BoundAt = s.at(f.Value), s.at(f.Low), s.at(f.High), s.at(f.Bound)
	v.Tip = v.Value + ", " + v.Bound
	return v
}

// Width returns the width of the drawing.
func (figure) Width() int { return figureWidth }
