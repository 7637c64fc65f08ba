package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// flowsCommand is what operators do with flows.
type flowsCommand struct {
	List    flowsList    `cmd:"" default:"withargs" help:"Show which versions of flows have unfinished keys, and which are paused."`
	Pause   flowsPause   `cmd:"" help:"Keep completers, and clients if asked, from running a flow, in all processes."`
	Resume  flowsResume  `cmd:"" help:"End a pause."`
	Reindex flowsReindex `cmd:"" help:"Rebuild the indexes of a flow that Redis has lost."`

	Versions flowsVersions `cmd:"" help:"Count the unfinished keys of a flow by version, from its indexes."`
}

// printPauses prints the pauses, if there are any.
func (c *flowsList) printPauses(ctx context.Context, in *redisidem.Inspector) error {
	pauses, err := in.Pauses(ctx)
	if err != nil || len(pauses) == 0 {
		return err
	}
	if c.Output != "json" {
		fmt.Println()
	}
	r := newRows(c.Output, "PAUSED FOR SINCE WHO WHY")
	for _, p := range pauses {
		who := "completers"
		if p.Clients {
			who = "completers, clients"
		}
		r.add(struct {
			Paused  string    `json:"paused"`
			Clients bool      `json:"clients"`
			Since   time.Time `json:"since"`
			Actor   string    `json:"actor"`
			Reason  string    `json:"reason"`
		}{p.Flow, p.Clients, p.At, p.Actor, p.Reason}, cut(p.Flow, 30), who, clock(p.At), cut(p.Actor, 16), cut(p.Reason, 34))
	}
	return r.flush()
}

type flowsPause struct {
	storeFlags
	actFlags
	Flow    string `arg:"" help:"Name of the flow, or NAME/VERSION."`
	Clients bool   `help:"Refuse clients, too, if the flow is Pausable."`
}

// Run pauses a flow.
func (c *flowsPause) Run(ctx context.Context) error {
	return c.onFlow(ctx, &c.storeFlags, "Pause", "paused", c.Flow, func(in *redisidem.Inspector) error {
		return in.Pause(ctx, c.Flow, c.Clients, c.act())
	})
}

type flowsResume struct {
	storeFlags
	actFlags
	Flow string `arg:"" help:"Name of the flow, or NAME/VERSION, as it was paused."`
}

// Run ends a pause.
func (c *flowsResume) Run(ctx context.Context) error {
	return c.onFlow(ctx, &c.storeFlags, "Resume", "resumed", c.Flow, func(in *redisidem.Inspector) error {
		return in.Resume(ctx, c.Flow, c.act())
	})
}

// onFlow asks whether to act on a flow, and does it.
func (f *actFlags) onFlow(ctx context.Context, store *storeFlags, question, done, flow string, do func(*redisidem.Inspector) error) error {
	if err := f.check(); err != nil {
		return err
	}
	return store.inspect(ctx, f.Retention, func(in *redisidem.Inspector) error {
		if err := f.confirm(ctx, question+" "+flow+"?"); err != nil {
			return err
		}
		if err := do(in); err != nil {
			return err
		}
		r := newRows(store.Output, "FLOW DONE")
		r.add(map[string]string{"flow": flow, "done": done}, flow, done)
		return r.flush()
	})
}

type flowsVersions struct {
	storeFlags
	Flow string `arg:"" help:"Name of the flow."`
}

// Run prints the versions of a flow that have unfinished keys.
func (c *flowsVersions) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		versions, err := in.OpenVersions(ctx, c.Flow)
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			fmt.Fprintf(os.Stderr, "No index has an unfinished key of %s. A flow without RecoverAfter has no index: redisidem flows reads all records.\n", c.Flow)
		}
		r := newRows(c.Output, "VERSION OPEN DEAD")
		for _, v := range versions {
			r.add(struct {
				Version int   `json:"version"`
				Open    int64 `json:"open"`
				Dead    int64 `json:"dead"`
			}(v), strconv.Itoa(v.Version), strconv.FormatInt(v.Open, 10), strconv.FormatInt(v.Dead, 10))
		}
		return r.flush()
	})
}
