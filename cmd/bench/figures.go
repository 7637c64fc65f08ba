package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/figure"
	"github.com/redisidem/redisidem/cmd/bench/internal/machine"
	"github.com/redisidem/redisidem/cmd/bench/internal/progress"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/cmd/bench/internal/table"
)

type figuresCommand struct {
	output
	Only        []int         `help:"Only the figures with these numbers." placeholder:"N"`
	Duration    time.Duration `help:"Length of each sample." default:"500ms"`
	Repetitions int           `help:"Samples of each side of a ratio." default:"9"`
	Records     int64         `help:"Records on the server when the growth of its time is measured." default:"2000000"`
}

func (c *figuresCommand) validate() error {
	for _, n := range c.Only {
		if n < 1 || n > figure.Count {
			return fmt.Errorf("--only: must be between 1 and %d: %d", figure.Count, n)
		}
	}
	switch {
	case c.Duration < time.Millisecond:
		return fmt.Errorf("--duration: must be at least 1ms: %v", c.Duration)
	case c.Repetitions < 1:
		return fmt.Errorf("--repetitions: must be at least 1: %d", c.Repetitions)
	case c.Records < 10_000:
		return fmt.Errorf("--records: must be at least 10000: %d", c.Records)
	}
	return c.check()
}

// Run measures the figures.
func (c *figuresCommand) Run(ctx context.Context) error {
	if err := c.validate(); err != nil {
		return err
	}
	plan := figure.Plan{Duration: c.Duration, Repetitions: c.Repetitions, Records: c.Records, Counted: 3000, Only: c.Only}
	bar := progress.New(os.Stderr, plan.Steps())
	plan.Step = bar.Step
	began, before := time.Now(), machine.Load()
	figures, srv, err := figure.Measure(ctx, plan)
	bar.Done()
	if srv != nil {
		defer srv.Stop()
	}
	if len(figures) == 0 {
		return err
	}
	run := &result.Run{
		Incomplete: err != nil, SampleSeconds: c.Duration.Seconds(),
		Schema: result.Schema, Began: began.UTC(), Seconds: time.Since(began).Seconds(), Command: result.Words(os.Args[1:]), Measured: true,
		Machine: machine.Describe(srv.Title, srv.Topology), Figures: figures,
	}
	run.Machine.LoadBefore, run.Machine.LoadAfter = before, machine.Load()
	if err = errors.Join(err, c.show(run)); err != nil { // keeps the figures measured so far
		return err
	}
	for _, f := range figures {
		if !f.Pass {
			return errShort
		}
	}
	return nil
}

// show prints the figures and writes them to the files named by the flags.
func (c *figuresCommand) show(run *result.Run) error {
	if err := table.Head(os.Stdout, run, width()); err != nil {
		return err
	}
	fmt.Println()
	if err := table.Figures(os.Stdout, run.Figures, width()); err != nil {
		return err
	}
	fmt.Printf("\n%.0f s in all. Values are medians of ratios within one turn, with the lowest and highest.\n", run.Seconds)
	return c.write(run)
}
