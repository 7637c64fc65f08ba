package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/redisidem/redisidem/redisidem"
)

// crashVariable is the environment variable with which a test lets this process die at a boundary.
// "N file" is the N-th boundary that the process reaches, counted from 1. The process writes each
// boundary into the file; with 0 it never dies and so lists all.
const crashVariable = "CHECKOUT_CRASH"

// crashes lets the process die at a boundary: before and after the work of each stage and each
// compensation, and after each commit. It does nothing in a process without that variable.
type crashes struct {
	mu   sync.Mutex
	at   int
	file string
	seen int
}

func newCrashes(order string) *crashes {
	c := &crashes{}
	if _, err := fmt.Sscanf(order, "%d %s", &c.at, &c.file); err != nil {
		c.file = "" // no order
	}
	return c
}

// reach is called at each boundary.
func (c *crashes) reach(boundary string) {
	if c.file == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen++
	f, err := os.OpenFile(c.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(boundary + "\n")
	}
	if err != nil {
		panic(err) // only a test gets here
	}
	_ = f.Close() // the write has succeeded
	if c.seen == c.at {
		die()
	}
}

// Observe implements [redisidem.Observer]: a commit has been stored.
func (c *crashes) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventCommitted {
		c.reach("committed " + e.RecoveryPoint)
	}
}

// around wraps the stages of a flow.
func (c *crashes) around(flow *redisidem.Flow, err error) (*redisidem.Flow, error) {
	if err != nil || c.file == "" {
		return flow, err
	}
	cfg := flow.Config()
	for i := range cfg.Stages {
		s := &cfg.Stages[i]
		work, undo := s.Work, s.Compensate
		s.Work = func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			c.reach("before " + s.Point)
			o, err := work(ctx, st)
			c.reach("after " + s.Point)
			return o, err
		}
		if undo != nil {
			s.Compensate = func(ctx context.Context, st *redisidem.Stage) error {
				c.reach("before undoing " + s.Point)
				err := undo(ctx, st)
				c.reach("after undoing " + s.Point)
				return err
			}
		}
	}
	return redisidem.NewFlow(cfg)
}
