package main

import (
	"fmt"
	"os"

	"github.com/redisidem/redisidem/cmd/bench/internal/compare"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

type compareCommand struct {
	Before string `arg:"" help:"JSON of the earlier run." type:"existingfile"`
	After  string `arg:"" help:"JSON of the later run." type:"existingfile"`
}

// Run is the command.
func (c *compareCommand) Run() error {
	before, err := result.Read(c.Before)
	if err != nil {
		return err
	}
	after, err := result.Read(c.After)
	if err != nil {
		return err
	}
	worse, err := compare.Compare(os.Stdout, before, after)
	if err != nil {
		return err
	}
	if worse {
		fmt.Println("\nA contender of redisidem's own got significantly worse.")
		return errShort
	}
	return nil
}

type reportCommand struct {
	From string `arg:"" name:"run" help:"JSON of the run." type:"existingfile"`
	Out  string `short:"o" help:"The file to write." default:"bench.html"`
}

// Run is the command.
func (c *reportCommand) Run() error {
	run, err := result.Read(c.From)
	if err != nil {
		return err
	}
	return writeHTML(c.Out, run)
}
