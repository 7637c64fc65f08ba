//go:build unix

package faults

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// operation is a call that faults strike.
type operation struct {
	name   string
	script *lua.Script
	// do prepares the key and calls arm right before the call under test. It returns the step that
	// the worker with the lease still has to do, and the caller's error.
	do func(c *cell) (then func() error, results error)
	// usual is the expected result. except replaces it for the faults that make a difference.
	usual  want
	except map[string]want
}

// want is the expected result of an operation.
type want struct {
	results []error // the caller's error matches all of them; empty: no error
	runs    int     // of the callback

	point    string // the record's recovery point, "" if the record does not exist
	attempts int    // of the record
	locked   bool   // whether a worker has the lease

	replay bool // whether a retry is replayed; otherwise it runs the callback
	unmet  bool // the fault does not strike, since the operation sends nothing that the fault could strike
}

// operations are the rows of the matrix. A fault without an entry in except has the usual result:
// the caller does not notice it.
var operations = []operation{
	{
		name: "acquire", script: lua.Claim,
		do: func(c *cell) (func() error, error) {
			c.arm()
			_, err := c.scope.Do(c.ctx, value, request, c.work)
			return nil, err
		},
		usual: want{runs: 1, point: redisidem.Finished, attempts: 1, replay: true},
		except: map[string]want{
			// Without memory, no stage begins.
			"OOM": {results: []error{redisidem.ErrUnavailable}},
			// The caller that asked for the lease has left. The lease is given back, and the stage
			// has not begun.
			"context cancelled": {results: []error{redisidem.ErrUnavailable, context.Canceled}, point: redisidem.Started},
		},
	},
	{
		name: "renew", script: lua.Renew,
		do: func(c *cell) (func() error, error) {
			held := c.lock(c.scope)
			c.shorten(lease / 2)
			c.arm()
			err := held.Renew(c.ctx)
			return func() error { return held.Abandon(context.Background()) }, err
		},
		usual: want{point: redisidem.Started, attempts: 1, locked: true},
		except: map[string]want{
			// A renewal takes no memory.
			"OOM": {point: redisidem.Started, attempts: 1, locked: true, unmet: true},
		},
	},
	{
		name: "commit", script: lua.Commit,
		do: func(c *cell) (func() error, error) {
			_, err := c.scope.Do(c.ctx, value, request, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				c.arm()
				return c.work(ctx, st)
			})
			return nil, err
		},
		usual: want{runs: 1, point: redisidem.Finished, attempts: 1, replay: true},
		except: map[string]want{
			// A commit begins by freeing the lock's memory. After that the server does not refuse
			// any command of the script.
			"OOM": {runs: 1, point: redisidem.Finished, attempts: 1, replay: true, unmet: true},
		},
	},
	{
		name: "abandon", script: lua.Abandon,
		do: func(c *cell) (func() error, error) {
			held := c.lock(c.scope)
			c.arm()
			return nil, held.Abandon(c.ctx)
		},
		usual: want{point: redisidem.Started, attempts: 1},
		except: map[string]want{
			// An abandon only frees memory.
			"OOM": {point: redisidem.Started, attempts: 1, unmet: true},
		},
	},
	{
		name: "wait", script: lua.Claim,
		do: func(c *cell) (func() error, error) {
			held := c.lock(c.other)
			commit := func() error {
				_, err := held.Commit(context.Background(), answer("work"))
				return err
			}
			c.arm()
			results := make(chan error, 1)
			c.running.Go(func() {
				_, err := c.scope.Wait(patience).Do(c.ctx, value, request, c.work)
				results <- err
			})
			if c.want.results != nil {
				return commit, <-results
			}
			if !c.want.unmet {
				c.awaitMet()
			}
			if err := commit(); err != nil {
				c.t.Errorf("the holder's commit: %v", err)
			}
			return nil, <-results
		},
		usual: want{point: redisidem.Finished, attempts: 1, replay: true},
		except: map[string]want{
			// Another worker's lease takes no memory to see.
			"OOM": {point: redisidem.Finished, attempts: 1, replay: true, unmet: true},
			"context cancelled": {
				results: []error{context.Canceled}, point: redisidem.Started, attempts: 1, locked: true, replay: true,
			},
		},
	},
}

// lock takes the lease on the cell's key.
func (c *cell) lock(sc *redisidem.Scope) *redisidem.Lease {
	c.t.Helper()
	ctx := context.Background() // the fault does not strike this context
	_, err := sc.InitializeRequest(ctx, value, request)
	must(c.t, err)
	held, err := sc.Lock(ctx, value)
	must(c.t, err)
	return held
}

// shorten reduces the remaining time of the lease to left.
func (c *cell) shorten(left time.Duration) {
	c.t.Helper()
	_, lock := c.place()
	must(c.t, c.raw.PExpire(context.Background(), lock, left).Err())
}
