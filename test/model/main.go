// Model checks the protocol of redisidem with Spin: the protocol must hold in every reachable state, and each of its
// broken variants must be refuted by the part of the promise that it breaks.
//
//	go run ./test/model                      what every change runs
//	go run ./test/model -full                larger sizes, too
//	go run ./test/model -variant NOFENCE     one run, with the steps of the error that it finds
//
// It needs spin and gcc. README.md describes the model.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	full := flag.Bool("full", false, "search the larger sizes, too")
	name := flag.String("variant", "", "make the run of this `name` only, and show the steps to its error")
	memory := flag.Int("memory", 8000, "megabytes that a search may use")
	limit := flag.Duration("timeout", 20*time.Minute, "time that a search may take")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := check(ctx, os.Stdout, selected(*full, *name), *memory, *limit, *name != "")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(1)
	}
}

// check makes the runs one after the other, prints a row for each, and fails if any does not show what it must.
func check(ctx context.Context, w io.Writer, runs []run, memory int, limit time.Duration, show bool) (err error) {
	if len(runs) == 0 {
		return errors.New("no run has this name; the first column of the table has the names")
	}
	if err := checkTools(); err != nil {
		return err
	}
	s, err := newSearcher(memory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	printHead(w)
	failed := 0
	for _, r := range runs {
		ok, err := s.checkOne(ctx, w, r, limit, show)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if !ok {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs do not show what they must", failed, len(runs))
	}
	fmt.Fprintf(w, "all %d runs show what they must\n", len(runs))
	return nil
}

// checkOne makes one run and prints its row, and the steps to its error if wanted or if there should be none.
func (s *searcher) checkOne(ctx context.Context, w io.Writer, r run, limit time.Duration, show bool) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no end after %s", limit))
	defer cancel()
	got, err := s.search(ctx, r)
	if err != nil {
		return false, err
	}
	story, tag := "", ""
	if got.errors > 0 {
		if story, err = s.replay(ctx, r, false); err != nil {
			return false, err
		}
		file, line := failedLine(story)
		tag = tagOf(model, file, line)
	}
	wrong := verdict(r, got, tag)
	printRow(w, r, got, tag, wrong)
	if story == "" || !show && r.expect != holds {
		return wrong == "", nil
	}
	fmt.Fprintf(w, "\nThe steps to the error:\n\n%s", story)
	if show {
		statements, err := s.replay(ctx, r, true)
		if err != nil {
			return false, err
		}
		fmt.Fprintf(w, "\nStatement by statement:\n\n%s\n", statements)
	}
	return wrong == "", nil
}

const rowFormat = "%-24s %-8s %-6s %11s %7s %8s %7s  %s\n"

func printHead(w io.Writer) {
	fmt.Fprintf(w, rowFormat, "run", "expected", "breaks", "states", "errors", "seconds", "MB", "what")
}

func printRow(w io.Writer, r run, got result, tag, wrong string) {
	fmt.Fprintf(w, rowFormat, r.name, r.expect, cmp.Or(tag, "-"), fmt.Sprintf("%.0f", got.states), fmt.Sprint(got.errors),
		fmt.Sprintf("%.1f", got.seconds), fmt.Sprintf("%.0f", got.megabytes), r.about)
	if wrong != "" {
		fmt.Fprintf(w, "  FAIL %s: %s\n", r.name, wrong)
	}
}
