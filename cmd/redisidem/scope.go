package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/redisidem/redisidem/redisidem"
)

// scopeCommand is what operators do with scopes.
type scopeCommand struct {
	Purge scopePurge `cmd:"" help:"Delete all keys of a scope, for instance of a tenant that leaves."`
	Usage scopeUsage `cmd:"" help:"Show how much of its quota a scope uses in all gateways together."`
}

// checkScope returns an error for an empty scope, which would stand for all keys.
func checkScope(scope string) error {
	if scope == "" {
		return usage("scope must not be empty")
	}
	return nil
}

type scopeUsage struct {
	storeFlags
	Scope string `arg:"" help:"The scope."`
}

// Run shows how much of its quota a scope uses.
func (c *scopeUsage) Run(ctx context.Context) error {
	if err := checkScope(c.Scope); err != nil {
		return err
	}
	return c.inspect(ctx, 0, func(in *redisidem.Inspector) error {
		use, err := in.ScopeUse(ctx, c.Scope)
		if err != nil {
			return err
		}
		r := newRows(c.Output, "QUOTA USED HELD LIMIT PROCESSES")
		row := func(quota string, used, held, limit int) {
			most := "-"
			if limit > 0 {
				most = strconv.Itoa(limit)
			}
			r.add(struct {
				Quota     string `json:"quota"`
				Used      int    `json:"used"`
				Held      int    `json:"held"`
				Limit     int    `json:"limit"`
				Processes int    `json:"processes"`
			}{quota, used, held, limit, use.Processes}, quota, strconv.Itoa(used), strconv.Itoa(held), most, strconv.Itoa(use.Processes))
		}
		row("in-flight", use.InFlight, use.InFlightHeld, use.InFlightLimit)
		row("keys", use.Stored, use.StoredHeld, use.StoredLimit)
		return r.flush()
	})
}

type scopePurge struct {
	storeFlags
	actFlags
	Scope  string `arg:"" help:"The scope."`
	DryRun bool   `help:"Only count the keys."`
	Cursor string `help:"Continue an earlier purge, which has printed this."`
}

// Run counts the keys of a scope, asks, and deletes them.
func (c *scopePurge) Run(ctx context.Context) error {
	if err := checkScope(c.Scope); err != nil {
		return err
	}
	if err := c.check(); err != nil && !c.DryRun {
		return err
	}
	return c.inspect(ctx, c.Retention, func(in *redisidem.Inspector) error {
		if c.DryRun || !c.Yes {
			stop := during("counting keys")
			n, locked, err := c.count(ctx, in)
			stop()
			if err != nil {
				return err
			}
			if c.DryRun {
				r := newRows(c.Output, "HITS LOCKED")
				r.add(map[string]int{"hits": n, "locked": locked}, strconv.Itoa(n), strconv.Itoa(locked))
				return r.flush()
			}
			if err := c.confirm(ctx, fmt.Sprintf("Delete %s of scope %s, and leave %d in flight?", count(n, "key"), cut(c.Scope, 40), locked)); err != nil {
				return err
			}
		}
		var p redisidem.Purged
		for purged, err := range in.Purge(ctx, c.Scope, c.Cursor, c.act()) {
			p = purged
			if err != nil {
				stopped(err, count(p.Deleted, "key")+" deleted", p.Deleted, p.Next)
				return err
			}
			progress(fmt.Sprintf("%s deleted of %s ", count(p.Deleted, "key"), count(p.Records, "record")))
		}
		progress("")
		r := newRows(c.Output, "DELETED LOCKED UNKNOWN LOOKED-AT")
		r.add(map[string]int{"deleted": p.Deleted, "locked": p.Locked, "unknown": p.Unknown, "records": p.Records},
			fmt.Sprint(p.Deleted), fmt.Sprint(p.Locked), fmt.Sprint(p.Unknown), fmt.Sprint(p.Records))
		if err := r.flush(); err != nil {
			return err
		}
		switch {
		case p.Locked > 0:
			return fmt.Errorf("%s in flight: purge again later", count(p.Locked, "key"))
		case p.Unknown > 0:
			return fmt.Errorf("%s of unknown scope, since they are damaged: see redisidem keys list --state unreadable", count(p.Unknown, "record"))
		}
		return nil
	})
}

// stopped says what an act on many keys had done before an error, and how it goes on.
func stopped(err error, what string, done int, cursor string) {
	progress("")
	switch {
	case errors.Is(err, redisidem.ErrInvalid): // before anything was done
	case cursor != "":
		fmt.Fprintf(os.Stderr, "%s; continue with --cursor %s\n", what, cursor)
	case done > 0: // in the first page, which has no cursor
		fmt.Fprintf(os.Stderr, "%s; repeat the command for the rest\n", what)
	}
}

// count counts the keys that a purge would delete, and those in flight.
func (c *scopePurge) count(ctx context.Context, in *redisidem.Inspector) (n, locked int, err error) {
	var seen recent
	for page, err := range in.List(ctx, redisidem.Filter{Scope: c.Scope}, c.Cursor) {
		if err != nil {
			return 0, 0, err
		}
		for _, k := range page.Keys {
			switch {
			case !seen.add(k.ID):
			case k.State == redisidem.KeyInFlight:
				locked++
			default:
				n++
			}
		}
	}
	return n, locked, nil
}
