package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// flowsReindex rebuilds the indexes by which completers and operators find the keys of a flow.
type flowsReindex struct {
	storeFlags
	actFlags
	Flow   string        `arg:"" help:"Name of the flow, for all its versions."`
	After  time.Duration `default:"1m" help:"How long completers leave the entered keys alone, such as the flow's RecoverAfter."`
	Pace   int           `default:"1000" help:"How many records are looked at in each second, of all flows. A record costs Redis about 10 µs."`
	Cursor string        `help:"Continue an earlier run, which has printed this."`
}

// Run asks, and enters the keys that the indexes have lost.
func (c *flowsReindex) Run(ctx context.Context) error {
	switch {
	case c.Pace < 1:
		return usage("--pace %d must be at least 1", c.Pace)
	case c.After < 0:
		return usage("--after %v must not be negative", c.After)
	}
	if err := c.check(); err != nil {
		return err
	}
	return c.inspect(ctx, c.Retention, func(in *redisidem.Inspector) error {
		if err := c.confirm(ctx, "Rebuild the indexes of "+cut(c.Flow, 64)+"?"); err != nil {
			return err
		}
		var p redisidem.Reindexed
		began := time.Now()
		for reindexed, err := range in.Reindex(ctx, c.Flow, c.After, c.Cursor, c.act()) {
			p = reindexed
			if err != nil {
				stopped(err, count(p.Entered, "key")+" entered", p.Entered, p.Next)
				return err
			}
			progress(fmt.Sprintf("%s entered of %s ", count(p.Entered, "key"), count(p.Records, "record")))
			ahead := time.Duration(float64(p.Records)/float64(c.Pace)*float64(time.Second)) - time.Since(began)
			select {
			case <-time.After(max(ahead, 0)):
			case <-ctx.Done(): // the next step reports it
			}
		}
		progress("")
		r := newRows(c.Output, "ENTERED LOOKED-AT")
		r.add(map[string]int{"entered": p.Entered, "records": p.Records}, fmt.Sprint(p.Entered), fmt.Sprint(p.Records))
		return r.flush()
	})
}
