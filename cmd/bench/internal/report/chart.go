package report

// width is the width of every chart, in the charts' own pixels. It fits a phone. A desktop shows
// two charts side by side.
const width = 480

// chart is a drawing with its caption.
type chart struct {
	ID     int // unique in the page
	Title  string
	Note   string // how to read the chart; may be empty
	Desc   string // the content of the drawing as text, for screen readers
	Unit   string // of the horizontal axis
	UnitY  string // of the vertical axis, if there is one
	Height float64
	X      axis
	Y      axis
	Rows   []row
	Lines  []line
	Key    []key
	Refer  float64 // where the line is that values are compared with; 0: none
}

// Width returns the width of the drawing.
func (chart) Width() int { return width }

// Tall returns the height of the drawing with its title.
func (c chart) Tall() float64 { return c.Height + 26 }

// axis is a line with ticks.
type axis struct {
	From, To float64
	Ticks    []tick
}

type tick struct {
	At   float64
	Text string
	// Anchor is the alignment of the text at the tick: start, middle or end.
	Anchor string
}

// key explains a shape.
type key struct {
	Class, Path, Text string
	Dashed            bool
}

// newAxis returns an axis with the ticks of a scale. It leaves out ticks whose text would touch the
// previous one.
func newAxis(s scale, ticks []float64, gap float64, text func(float64) string) axis {
	a := axis{From: s.from, To: s.to}
	last, free := 0.0, 0.0 // free is the minimum distance of a centred text's tick from the previous tick
	for _, v := range ticks {
		at, need := s.at(v), free
		anchor := "middle"
		switch {
		case at < 20:
			anchor = "start"
		case at > width-24:
			anchor = "end"
			need += gap / 2
		}
		if gap > 0 && at-last < need {
			continue
		}
		last, free = at, gap
		if anchor == "start" {
			free += gap / 2
		}
		a.Ticks = append(a.Ticks, tick{At: at, Text: text(v), Anchor: anchor})
	}
	return a
}

// describe adds a sentence to the description of the drawing.
func (c *chart) describe(text string) {
	if c.Desc != "" {
		c.Desc += "; "
	}
	c.Desc += text
}

// These methods return the positions of the parts of the horizontal axis.

// Foot returns where the drawing ends.
func (c chart) Foot() float64 { return c.Height - footer }

// Notch returns where the ticks end.
func (c chart) Notch() float64 { return c.Foot() + 5 }

// Label returns the baseline of the ticks' texts.
func (c chart) Label() float64 { return c.Foot() + 18 }

// Under returns the baseline of the unit.
func (c chart) Under() float64 { return c.Foot() + 37 }

// Center returns the position of the unit.
func (c chart) Center() float64 { return (c.X.From + c.X.To) / 2 }
