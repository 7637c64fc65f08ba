package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/test/internal/rung"
)

// test is a rung: a package of tests beside this one, or a script.
type test struct {
	name string
	// script is a path from the root of the workspace, with its argument by size. Without a script,
	// the package with the name is tested.
	script    string
	arguments [3]string
	// limit is the time that the rung may take, by size: up to change, nightly, release.
	limit [3]time.Duration
}

// tests are the rungs, the cheapest ones first.
var tests = []test{
	{name: "model", limit: [...]time.Duration{15 * time.Minute, time.Hour, 2 * time.Hour}},
	{name: "properties", limit: [...]time.Duration{5 * time.Minute, time.Hour, 4 * time.Hour}},
	{name: "sim", limit: [...]time.Duration{10 * time.Minute, 3 * time.Hour, 24 * time.Hour}},
	{name: "mutants", limit: [...]time.Duration{25 * time.Minute, 2 * time.Hour, 2 * time.Hour}},
	{name: "processes", limit: [...]time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
	{name: "faults", limit: [...]time.Duration{5 * time.Minute, 20 * time.Minute, 20 * time.Minute}},
	{name: "crash", limit: [...]time.Duration{5 * time.Minute, time.Hour, 5 * time.Hour}},
	{name: "outbox", limit: [...]time.Duration{5 * time.Minute, 20 * time.Minute, 2 * time.Hour}},
	{name: "sql", limit: [...]time.Duration{5 * time.Minute, 30 * time.Minute, 30 * time.Minute}},
	{name: "consumer", limit: [...]time.Duration{5 * time.Minute, 10 * time.Minute, 30 * time.Minute}},
	{name: "completer", limit: [...]time.Duration{5 * time.Minute, 20 * time.Minute, time.Hour}},
	{name: "operator", limit: [...]time.Duration{5 * time.Minute, 30 * time.Minute, 30 * time.Minute}},
	{name: "console", limit: [...]time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute}},
	{name: "gateway", limit: [...]time.Duration{10 * time.Minute, time.Hour, 5 * time.Hour}},
	{name: "topology", limit: [...]time.Duration{10 * time.Minute, 2 * time.Hour, 2 * time.Hour}},
	{name: "soak", limit: [...]time.Duration{5 * time.Minute, 2 * time.Hour, 6 * time.Hour}},
	{
		name: "fuzz", limit: [...]time.Duration{40 * time.Minute, 90 * time.Minute, 14 * time.Hour},
		script: "scripts/fuzz.sh", arguments: [...]string{"20000", "200000", "5000000"}, // inputs for each target
	},
}

// outcome is the result of a rung.
type outcome struct {
	err     error
	took    time.Duration
	figures []figure
	output  []byte
}

// figure is a figure of a rung for a line of the scoreboard.
type figure struct{ id, text string }

// run runs the rung, and ends it when its limit is over.
func (r test) run(ctx context.Context, size string, seed uint64) outcome {
	at := max(0, rung.SizeIndex(size)-1)
	// The limit of go test ends the tests with a trace of all goroutines. The context's is a little
	// later.
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit[at]+time.Minute, errors.New("it did not end"))
	defer cancel()
	began := time.Now()
	var output []byte
	var err error
	if r.script == "" {
		output, err = execute(exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout", r.limit[at].String(),
			"github.com/redisidem/redisidem/test/"+r.name, "-size", size, "-seed", strconv.FormatUint(seed, 10)))
		switch {
		case err != nil:
		case !bytes.Contains(output, []byte("\n--- PASS")) && !bytes.HasPrefix(output, []byte("--- PASS")):
			err = errors.New("no test has run")
		case bytes.Contains(output, []byte("--- SKIP")):
			err = errors.New("a test was skipped")
		}
	} else {
		var root string
		if root, err = workspace(ctx); err == nil {
			output, err = execute(exec.CommandContext(ctx, filepath.Join(root, r.script), r.arguments[at]))
		}
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // the command only reports that it was interrupted
	}
	return outcome{err: err, took: time.Since(began), figures: figures(output), output: output}
}

// execute runs a command, which is interrupted when its context ends.
func execute(cmd *exec.Cmd) ([]byte, error) {
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.CombinedOutput()
}

// workspace returns the folder of the workspace.
func workspace(ctx context.Context) (string, error) {
	file, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	return filepath.Dir(string(bytes.TrimSpace(file))), err
}

// figures returns the figures that the tests have printed.
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
