package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/test/internal/rung"
)

// test is a rung: a package of tests beside this one.
type test struct {
	name string
	// limit is the time it may take, by size: up to change, nightly, release.
	limit [3]time.Duration
}

// tests are the rungs, the cheapest and most telling first.
var tests = []test{
	{"model", [...]time.Duration{5 * time.Minute, time.Hour, 2 * time.Hour}},
	{"properties", [...]time.Duration{5 * time.Minute, time.Hour, 4 * time.Hour}},
	{"sim", [...]time.Duration{5 * time.Minute, 3 * time.Hour, 24 * time.Hour}},
	{"mutants", [...]time.Duration{10 * time.Minute, time.Hour, 2 * time.Hour}},
	{"faults", [...]time.Duration{5 * time.Minute, 20 * time.Minute, 20 * time.Minute}},
	{"crash", [...]time.Duration{5 * time.Minute, time.Hour, 5 * time.Hour}},
	{"outbox", [...]time.Duration{5 * time.Minute, 20 * time.Minute, 2 * time.Hour}},
	{"completer", [...]time.Duration{5 * time.Minute, 20 * time.Minute, time.Hour}},
	{"topology", [...]time.Duration{10 * time.Minute, 2 * time.Hour, 2 * time.Hour}},
	{"soak", [...]time.Duration{5 * time.Minute, 2 * time.Hour, 6 * time.Hour}},
}

// outcome is what a rung has come to.
type outcome struct {
	err     error
	took    time.Duration
	figures []figure
	output  []byte
}

// figure is what a rung tells for a line of the scoreboard.
type figure struct{ id, text string }

// run runs the rung, and ends it if it takes too long.
func (r test) run(ctx context.Context, size string, seed uint64) outcome {
	limit := r.limit[max(0, rung.SizeIndex(size)-1)]
	// The test's own limit ends it with a trace of all goroutines; ours is the backstop.
	ctx, cancel := context.WithTimeoutCause(ctx, limit+time.Minute, errors.New("it did not end"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout", limit.String(),
		"github.com/redisidem/redisidem/test/"+r.name, "-size", size, "-seed", strconv.FormatUint(seed, 10))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	output, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(output, []byte("\n--- PASS")) && !bytes.HasPrefix(output, []byte("--- PASS")) {
		err = errors.New("no test has run")
	}
	if err == nil && bytes.Contains(output, []byte("--- SKIP")) {
		err = errors.New("a test was skipped")
	}
	return outcome{err: err, took: time.Since(began), figures: figures(output), output: output}
}

// figures finds those that the tests have printed.
func figures(output []byte) (found []figure) {
	for line := range strings.Lines(string(output)) {
		rest, ok := strings.CutPrefix(line, rung.FigurePrefix)
		if !ok {
			continue
		}
		if id, text, ok := strings.Cut(rest, ": "); ok {
			found = append(found, figure{id, strings.TrimSpace(text)})
		}
	}
	return found
}
