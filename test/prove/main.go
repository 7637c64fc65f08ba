// Prove runs every rung of the proof that redisidem keeps its promise, and prints the figures of
// each.
//
//	go run ./test/prove                       what every change runs
//	go run ./test/prove -size nightly         for every night; -size release is the largest
//	go run ./test/prove -only sim,crash       these rungs alone
//	go run ./test/prove -only sim -seed 42    with the random choices of an earlier run
//
// A rung is one kind of proof: a package of tests beside this one, or the fuzz targets of all
// packages. The documentation of each package says what it proves, which flags it has, and how to
// repeat a failure. Rungs run one after the other, because most of them use the whole machine. If a
// rung fails, its output is printed and the exit status is 1. The rungs need the programs that
// scripts/install-programs.sh installs, and one of them needs root.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redisidem/redisidem/test/internal/rung"
)

func main() {
	only := flag.String("only", "", "names of rungs, with commas between them; all of them if empty")
	flag.Parse() // -size and -seed are those of the rungs
	size, seed := rung.Asked()
	if size == rung.Sizes[0] {
		size = rung.Sizes[1] // the smallest that proves anything
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := prove(ctx, os.Stdout, size, seed, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		os.Exit(1)
	}
}

func prove(ctx context.Context, w io.Writer, size string, seed uint64, only string) error {
	if !slices.Contains(rung.Sizes, size) {
		return fmt.Errorf("size %q: it can be %s", size, strings.Join(rung.Sizes, ", "))
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	var failed []string
	began := time.Now()
	for _, r := range chosen {
		fmt.Fprintf(w, "%-12s ", r.name)
		o := r.run(ctx, size, seed)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.print(w)
		if o.err != nil {
			failed = append(failed, r.name)
		}
	}
	fmt.Fprintf(w, "%d of %d rungs hold, in %v\n", len(chosen)-len(failed), len(chosen), time.Since(began).Round(time.Second))
	if len(failed) > 0 {
		return fmt.Errorf("these rungs fail: %s", strings.Join(failed, ", "))
	}
	return nil
}

// choose returns the rungs with these names.
func choose(only string) ([]test, error) {
	if only == "" {
		return tests, nil
	}
	var chosen []test
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(tests, func(r test) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no rung is named %q; the rungs are %s", name, names())
		}
		chosen = append(chosen, tests[i])
	}
	return chosen, nil
}

func names() string {
	all := make([]string, 0, len(tests))
	for _, r := range tests {
		all = append(all, r.name)
	}
	return strings.Join(all, ", ")
}

// print prints the figures of a rung or, if it has failed, its output.
func (o outcome) print(w io.Writer) {
	verdict := "holds"
	if o.err != nil {
		verdict = "FAILS: " + o.err.Error()
	}
	fmt.Fprintf(w, "%s (%v)\n", verdict, o.took.Round(100*time.Millisecond))
	if o.err != nil {
		fmt.Fprintf(w, "%s\n", o.output)
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range o.figures {
		fmt.Fprintf(table, "  %s\t%s\n", f.id, f.text)
	}
	_ = table.Flush()
}
