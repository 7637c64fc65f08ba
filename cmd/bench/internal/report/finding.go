package report

import (
	"fmt"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// finding says in a sentence or two what came out under one load. It calls nobody the first whose samples lie among
// another's.
func finding(l load, points []*result.Point) []phrase {
	if len(points) < 2 {
		return nil
	}
	value, better := (*result.Point).Throughput, func(a, b float64) bool { return a > b }
	text := func(f float64) string { return count(f) + " operations per second" }
	if l.rate > 0 {
		value, better = slowest, func(a, b float64) bool { return a < b }
		text = func(f float64) string { return "99 % of the operations within " + micros(f) }
	}
	first, own := points[0], (*result.Point)(nil)
	for _, p := range points {
		if better(value(p).Median, value(first).Median) {
			first = p
		}
		if p.Own && (own == nil || better(value(p).Median, value(own).Median)) {
			own = p
		}
	}
	var said []phrase
	say := func(text string, strong bool) { said = append(said, phrase{text, strong}) }
	var near []string
	for _, p := range points {
		if a, b := value(p), value(first); p != first && a.High >= b.Low && a.Low <= b.High {
			near = append(near, p.Title)
		}
	}
	say(first.Title, true)
	verb := " comes first: "
	if len(near) > 0 {
		verb = ": "
	}
	say(verb+text(value(first).Median)+against(first, points), false)
	if len(near) > 0 {
		say("; too near to tell apart from ", false)
		say(strings.Join(near, "; "), true)
	}
	say(". ", false)
	if own != nil && own != first {
		say(own.Title, true)
		say(": "+text(value(own).Median)+against(own, points)+".", false)
	}
	return said
}

// against says how a point's throughput compares with the baseline's.
func against(p *result.Point, points []*result.Point) string {
	if p.Ratio == nil {
		return ""
	}
	for _, base := range points {
		if base.Baseline {
			return fmt.Sprintf(", %s times %s (%s to %s)", number2(p.Ratio.Median), base.Title, number2(p.Ratio.Low), number2(p.Ratio.High))
		}
	}
	return ""
}
