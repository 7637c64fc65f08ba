package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// statsCommand prints statistics.
type statsCommand struct {
	storeFlags
	Flow []string `placeholder:"NAME" help:"Count the indexes of this flow, even if no completer has ever scanned it and no key of it was drawn."`
}

// Run prints how many keys are in each state, and the indexes of flows.
func (c *statsCommand) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		stop := during("counting keys")
		stats, err := in.Stats(ctx, c.Flow...)
		stop()
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return newJSON(os.Stdout).Encode(newStatsRecord(stats))
		}
		r := newRows(c.Output, "STATE KEYS ERROR")
		row := func(name string, e redisidem.Estimate) {
			off := "counted"
			if e.Error > 0 {
				off = "±" + strconv.FormatInt(e.Error, 10)
			}
			r.line(name, strconv.FormatInt(e.Count, 10), off)
		}
		for _, state := range redisidem.KeyStates() {
			row(state.String(), stats.States[state])
		}
		row("all", stats.Records)
		if err := r.flush(); err != nil {
			return err
		}
		fmt.Println()
		r = newRows(c.Output, "FLOW DUE OVERDUE DEAD")
		for _, f := range stats.Flows {
			r.line(shown(f.Name), strconv.FormatInt(f.Due, 10), strconv.FormatInt(f.Overdue, 10), strconv.FormatInt(f.Dead, 10))
		}
		return r.flush()
	})
}

type statsRecord struct {
	Records estimateRecord            `json:"records"`
	States  map[string]estimateRecord `json:"states"`
	Drawn   int                       `json:"drawn"`
	Flows   []flowRecord              `json:"flows"`
}

type estimateRecord struct {
	Count int64 `json:"count"`
	Error int64 `json:"error"`
}

type flowRecord struct {
	Name    string `json:"name"`
	Due     int64  `json:"due"`
	Overdue int64  `json:"overdue"`
	Dead    int64  `json:"dead"`
}

func newStatsRecord(s *redisidem.Stats) statsRecord {
	r := statsRecord{estimateRecord(s.Records), make(map[string]estimateRecord), s.Drawn, []flowRecord{}}
	for state, e := range s.States {
		r.States[state.String()] = estimateRecord(e)
	}
	for _, f := range s.Flows {
		r.Flows = append(r.Flows, flowRecord(f))
	}
	return r
}

// flowsList prints which versions of flows are in use.
type flowsList struct{ storeFlags }

// Run prints the versions of flows that have unfinished keys, and the pauses if there are any.
func (c *flowsList) Run(ctx context.Context) error {
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		stop := during("reading all records")
		flows, err := in.OpenFlows(ctx)
		stop()
		if err != nil {
			return err
		}
		r := newRows(c.Output, "FLOW OPEN OLDEST STATES")
		for _, f := range flows {
			addOpenFlow(r, &f)
		}
		if err := r.flush(); err != nil {
			return err
		}
		return c.printPauses(ctx, in)
	})
}

// addOpenFlow prints a version of a flow.
func addOpenFlow(r *rows, f *redisidem.OpenFlow) {
	states := make(map[string]int)
	var words []string
	for _, state := range redisidem.KeyStates() {
		if n := f.States[state]; n > 0 {
			states[state.String()] = n
			words = append(words, strconv.Itoa(n)+" "+state.String())
		}
	}
	r.addLong(struct {
		Flow   string         `json:"flow"`
		Open   int            `json:"open"`
		Oldest time.Time      `json:"oldest"`
		States map[string]int `json:"states"`
	}{f.Flow, f.Open, f.Oldest, states}, 60, strings.Join(words, ", "), cut(f.Flow, 30), strconv.Itoa(f.Open), clock(f.Oldest))
}

// auditCommand prints what operators did.
type auditCommand struct {
	storeFlags
	Since time.Duration `default:"168h" help:"How far to go back, by this machine's clock; 0 for all."`
	Key   given         `placeholder:"ID" help:"Only acts on the key with this ID."`
}

// Run prints the audit.
func (c *auditCommand) Run(ctx context.Context) error {
	var from time.Time
	if c.Since > 0 {
		from = time.Now().Add(-c.Since)
	}
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		entries, damage := in.Audit(ctx, from, time.Time{})
		if damage != nil && !errors.Is(damage, redisidem.ErrDamaged) {
			return damage
		}
		r := newRows(c.Output, "WHEN WHO WHAT ID WHY")
		for _, e := range entries {
			if c.Key != "" && string(c.Key) != e.KeyID {
				continue
			}
			what, counts, _ := strings.Cut(e.Act, ", ") // an act on many keys has counts
			if e.Outcome != "done" {
				what += ": " + e.Outcome
			}
			r.addLong(struct {
				At      time.Time `json:"at"`
				Actor   string    `json:"actor"`
				Act     string    `json:"act"`
				Outcome string    `json:"outcome"`
				ID      string    `json:"id"`
				Reason  string    `json:"reason"`
			}{e.At, e.Actor, e.Act, e.Outcome, e.KeyID, e.Reason}, 27, e.Reason, clock(e.At), cut(e.Actor, 10), cut(what, 30), cut(e.KeyID, 32))
			if counts != "" {
				r.note(counts)
			}
		}
		return errors.Join(r.flush(), damage)
	})
}
