package model

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// result is what pan, the searcher that Spin generates, says about one search.
type result struct {
	states    float64
	errors    int
	seconds   float64
	megabytes float64
	// doubts are the reasons why the search may have missed states.
	doubts []string
	// unreached are the statements that no execution got to: what stands behind them was not
	// checked.
	unreached []string
}

// number is how pan prints one: large ones have an exponent.
const number = `([\d.]+(?:e[+-]?\d+)?)`

var (
	statesLine    = regexp.MustCompile(`(?m)^\s*` + number + ` states, stored`)
	errorsLine    = regexp.MustCompile(`(?m), errors: (\d+)`)
	secondsLine   = regexp.MustCompile(`(?m)^pan: elapsed time ` + number + ` seconds`)
	megabytesLine = regexp.MustCompile(`(?m)^\s*` + number + `\s+total actual memory usage`)
	unreachedLine = regexp.MustCompile(`(?m)^\t(\S+:\d+, state \d+, .*)$`)
	doubtLine     = regexp.MustCompile(`(?mi)^.*(search not completed|max search depth too small|out of memory|memlim bound).*$`)
)

// parse reads the output of pan. It fails when a figure is missing: pan died on its way.
func parse(out string) (result, error) {
	var r result
	var err error
	figure := func(name string, line *regexp.Regexp) float64 {
		m := line.FindStringSubmatch(out)
		if m == nil {
			err = fmt.Errorf("pan's output has no number of %s", name)
			return 0
		}
		f, parseErr := strconv.ParseFloat(m[1], 64)
		if parseErr != nil {
			err = fmt.Errorf("pan's number of %s: %w", name, parseErr)
		}
		return f
	}
	r.states = figure("states", statesLine)
	r.errors = int(figure("errors", errorsLine))
	r.seconds = figure("seconds", secondsLine)
	r.megabytes = figure("megabytes", megabytesLine)
	for _, line := range doubtLine.FindAllString(out, -1) {
		r.doubts = append(r.doubts, strings.TrimSpace(line))
	}
	for _, m := range unreachedLine.FindAllStringSubmatch(out, -1) {
		// The end of a process that goes round for ever is not meant to be reached.
		if !strings.Contains(m[1], `"-end-"`) {
			r.unreached = append(r.unreached, m[1])
		}
	}
	return r, err
}

// failedLine returns the file and the number of the line whose assertion fails first in a replay by
// Spin, 0 for none.
func failedLine(replay string) (file string, line int) {
	m := assertionLine.FindStringSubmatch(replay)
	if m == nil {
		return "", 0
	}
	n, _ := strconv.Atoi(m[2]) // the expression takes digits only
	return m[1], n
}

var assertionLine = regexp.MustCompile(`(\w+\.pml):(\d+), Error: assertion violated`)

// tagOf returns the tag in the comment behind an assertion of the model, which names what it
// protects.
func tagOf(model fs.FS, file string, line int) string {
	source, err := fs.ReadFile(model, file)
	lines := strings.Split(string(source), "\n")
	if err != nil || line < 1 || line > len(lines) {
		return ""
	}
	m := tagComment.FindStringSubmatch(lines[line-1])
	if m == nil {
		return ""
	}
	return m[1]
}

var tagComment = regexp.MustCompile(`assert\(.*/\* ([DSLQ]\d) \*/`)

// verdict returns what is wrong with the result of a run, empty if it shows what it must. tag is
// that of the assertion that failed.
func verdict(r run, got result, tag string) string {
	switch {
	case r.expect == holds && got.errors > 0:
		return "the protocol breaks " + tag
	case r.expect == holds && len(got.doubts) > 0:
		return "not searched to the end: " + strings.Join(got.doubts, "; ")
	case r.expect == holds && r.revisions > 1 && len(got.unreached) > 0: // one revision has no kept leases
		return "never got to: " + strings.Join(got.unreached, "; ")
	case r.expect != holds && got.errors == 0:
		return "not " + string(r.expect)
	case tag != r.tag:
		return fmt.Sprintf("breaks %q instead of %s", tag, r.tag)
	}
	return ""
}
