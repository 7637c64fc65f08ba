package report

import (
	"fmt"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// promises is the summary of what each contender keeps of the promise.
type promises struct {
	Callers int
	Verdict string
	Rows    []promised
}

// promised is one contender.
type promised struct {
	Title, Verdict string
	Class          string // pass, short or unknown
	Own            bool
	Race, Late     string // what was seen; Race is the reason if there is no result
}

func newPromises(all []result.Promise) promises {
	var s promises
	kept := 0
	for i := range all {
		p := &all[i]
		s.Callers = max(s.Callers, p.Callers)
		row := promised{Title: p.Title, Own: p.Own, Verdict: "broken", Class: "short", Race: ran(p), Late: late(p)}
		switch {
		case p.Error != "":
			row.Verdict, row.Class, row.Race, row.Late = "not shown", "unknown", p.Error, ""
		case p.Kept():
			kept++
			row.Verdict, row.Class = "kept", "pass"
		}
		s.Rows = append(s.Rows, row)
	}
	s.Verdict = fmt.Sprintf("%d of %d keep it.", kept, len(all))
	return s
}

func ran(p *result.Promise) string {
	if p.Ran() {
		return "ran once"
	}
	return fmt.Sprintf("ran %s, %s", quantity(p.Runs, "time"), quantity(p.Answers, "different answer"))
}

// quantity returns a number with a noun.
func quantity(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}

// late describes what became of the late workers.
func late(p *result.Promise) string {
	switch {
	case p.Fenced():
		return "refused"
	case p.LateFirst == result.LateStored && p.LateLast == result.LateStored:
		return "its answer is stored, first or last"
	case p.LateFirst == result.LateStored:
		return "if it is ready first, its answer is stored and the holder's lost"
	case p.LateLast == result.LateStored:
		return "its answer overwrites the stored one"
	}
	return "gets no error, although its answer is not stored"
}
