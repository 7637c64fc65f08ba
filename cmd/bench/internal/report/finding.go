package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// finding sums up the results under one load in a sentence or two. It names a contender as the
// first only if it does the work, unlike the floors, and was ahead in each repetition. A machine
// that is slow for a while slows both sides of a repetition's ratio. It also makes the samples of
// different contenders overlap.
func finding(l load, timed bool, all []*result.Point) []phrase {
	points := slices.DeleteFunc(slices.Clone(all), func(p *result.Point) bool { return !p.Replays })
	if len(all) < 2 || len(points) == 0 {
		return nil
	}
	value, better := func(s result.Sample) float64 { return s.PerSecond }, func(a, b float64) bool { return a > b }
	text := func(f float64) string { return count(f) + " operations per second" }
	if l.rate > 0 || timed {
		value, better = func(s result.Sample) float64 { return s.Latency.P99 }, func(a, b float64) bool { return a < b }
		text = func(f float64) string { return "99 % of the operations within " + micros(f) }
	}
	middle := func(p *result.Point) float64 {
		values := make([]float64, len(p.Samples))
		for i, s := range p.Samples {
			values[i] = value(s)
		}
		return result.SpreadOf(values).Median
	}
	first, own := points[0], (*result.Point)(nil)
	for _, p := range points {
		if better(middle(p), middle(first)) {
			first = p
		}
		if p.Own && (own == nil || better(middle(p), middle(own))) {
			own = p
		}
	}
	var said []phrase
	say := func(text string, strong bool) { said = append(said, phrase{text, strong}) }
	var near []string
	for _, p := range points {
		for i := range min(len(p.Samples), len(first.Samples)) {
			if p != first && !better(value(first.Samples[i]), value(p.Samples[i])) {
				near = append(near, p.Title)
				break
			}
		}
	}
	say(first.Title, true)
	verb := " comes first in each repetition: "
	if len(near) > 0 || len(points) == 1 {
		verb = ": "
	}
	say(verb+text(middle(first))+against(first, all), false)
	if len(near) > 0 {
		say("; not ahead in each repetition of ", false)
		say(strings.Join(near, "; "), true)
	}
	say(". ", false)
	if own != nil && own != first {
		say(own.Title, true)
		say(": "+text(middle(own))+against(own, all)+". ", false)
	}
	var floors []string
	for _, p := range all {
		if !p.Replays {
			floors = append(floors, p.Title)
		}
	}
	if len(floors) > 0 {
		say("Not compared, because they cannot replay an answer: "+strings.Join(floors, "; ")+".", false)
	}
	return said
}

// against describes how a point's throughput compares with the baseline's.
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
