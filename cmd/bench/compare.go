package main

import (
	"fmt"
	"io"
	"os"

	"github.com/redisidem/redisidem/cmd/bench/internal/compare"
	"github.com/redisidem/redisidem/cmd/bench/internal/report"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

type compareCommand struct {
	Before string `arg:"" help:"JSON of the earlier run." type:"existingfile"`
	After  string `arg:"" help:"JSON of the later run." type:"existingfile"`
}

// Help implements kong's interface. It returns the text below the flags.
func (compareCommand) Help() string {
	return "A point is compared by its ratios to the baseline of the same repetition, so measure the baseline as well. p-values are corrected " +
		"for the number of points, so that equal builds come out worse in one comparison of twenty at most. That takes samples: " +
		"one point needs 4 repetitions of each run before any difference can be significant, 20 points need 6, and 1000 need 9. With " +
		"the default of 3 repetitions, no difference can be significant, and the comparison says so. A contender that failed in the later run is worse, however " +
		"few the repetitions."
}

// Run compares two runs.
func (c *compareCommand) Run() error {
	before, err := result.Read(c.Before)
	if err != nil {
		return err
	}
	after, err := result.Read(c.After)
	if err != nil {
		return err
	}
	worse, err := compare.Compare(os.Stdout, width(), before, after)
	if err != nil {
		return err
	}
	if worse {
		fmt.Println("\nA contender of redisidem is significantly worse, or failed.")
		return errShort
	}
	return nil
}

type reportCommand struct {
	From string `arg:"" name:"run" help:"JSON of the run." type:"existingfile"`
	Out  string `short:"o" help:"The file to write." default:"bench.html"`
	SVG  string `name:"svg" help:"Write one drawing instead: the throughput of this scenario's contenders against the baseline's." placeholder:"SCENARIO"`
}

// Run writes the report of a run.
func (c *reportCommand) Run() error {
	run, err := result.Read(c.From)
	if err != nil {
		return err
	}
	return write(c.Out, func(w io.Writer) error {
		if c.SVG != "" {
			return report.SVG(w, run, c.SVG)
		}
		return report.HTML(w, run)
	})
}
