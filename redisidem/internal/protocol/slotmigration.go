package protocol

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// While a cluster migrates a slot, its keys are on two nodes. A command with one key finds the
// right node, and a command with several keys gets TRYAGAIN. This file does the work of such a
// command in steps with one key each.
//
// The record decides which attempt has the lease. The lock is taken before the record is changed
// and given back after it, so a failure after any step is safe.

// alone returns the call with the record as its only key.
func (c Call) alone() Call {
	c.words = slices.Concat(c.words[:2], []any{1}, c.words[3:4], c.words[3+c.keys:])
	c.keys, c.stepwise = 1, false
	return c
}

// runInSteps does the work of a call in steps.
func (c *Client) runInSteps(ctx context.Context, call Call) (Reply, error) {
	one := call.alone()
	taken, keep := false, call.script.Name == lua.Renew.Name
	if call.script.Name == lua.Commit.Name {
		_, keep = call.WithoutKeep()
	}
	if keep {
		var err error
		if taken, err = c.takeLock(ctx, call); err != nil {
			return Reply{}, err
		}
		switch {
		case taken:
		case call.script.Name == lua.Renew.Name:
			return Reply{Status: StatusLost, script: call.script}, nil
		default:
			one, _ = one.WithoutKeep() // the result is stored, and the lease ends
		}
	}
	r, err := c.once(ctx, one)
	if err != nil {
		return r, err
	}
	if !taken || r.Status != StatusOK {
		c.releaseLock(ctx, call)
	}
	if keep && !taken && r.Status == StatusOK {
		r = r.notKept() // an earlier try kept the lease, which was lost since then
	}
	return r, nil
}

// claimInSteps does the work of a claim in steps. It reads the record, takes the lock, and marks
// the record as claimed if it has not changed. An attempt that had a lease when the lock was taken
// has lost it. An attempt that got a lease since then has changed the record.
func (c *Client) claimInSteps(ctx context.Context, call Call) (Reply, error) {
	before, err := c.control(ctx, call.key(0))
	if err != nil {
		return Reply{}, err
	}
	taken, err := c.takeLock(ctx, call)
	if err != nil {
		return Reply{}, err
	}
	if !taken {
		before = ""
	}
	one := call.alone()
	one.words = one.words[:min(len(one.words), one.arg(claimControl))] // the others are about KEYS[3]
	for len(one.words) < one.arg(claimControl) {
		one.words = append(one.words, "")
	}
	one.words = append(one.words, before)
	r, err := c.once(ctx, one)
	switch {
	case err != nil:
		return r, err
	case r.Status == StatusOwn:
		return r, nil
	case r.Status == StatusBusy && taken:
		return r, errAgain
	case r.Status == StatusBusy:
		r.numbers, err = c.lockLife(ctx, call.lock())
		return r, err
	}
	if taken {
		c.releaseLock(ctx, call)
	}
	return r, nil
}

// noControl stands for the control of a record that does not exist, in the claim script.
const noControl = "-"

// control reads the field of a record that changes with each lease.
func (c *Client) control(ctx context.Context, record string) (string, error) {
	cmd := redis.NewStringCmd(ctx, "hget", record, "control")
	if err := c.send(ctx, cmd); err != nil {
		return "", err
	}
	if errors.Is(cmd.Err(), redis.Nil) {
		return noControl, nil
	}
	return cmd.Val(), nil
}

// lockLife reads the remaining life of a lock in milliseconds.
func (c *Client) lockLife(ctx context.Context, lock string) (string, error) {
	cmd := redis.NewIntCmd(ctx, "pttl", lock)
	err := c.send(ctx, cmd)
	return strconv.FormatInt(max(cmd.Val(), 0), 10), err
}

// takeLock obtains the lock for a call's token, or extends it to a whole lease. It reports false if
// another token has it.
func (c *Client) takeLock(ctx context.Context, call Call) (bool, error) {
	_, err := redislock.New(lockAlone{client: c}).Obtain(ctx, call.lock(), c.lease, &redislock.Options{Token: call.nonce})
	if errors.Is(err, redislock.ErrNotObtained) {
		return false, nil
	}
	return err == nil, err
}

// releaseLock gives back the lock of a call's token. If that fails, the lock lapses.
func (c *Client) releaseLock(ctx context.Context, call Call) {
	_, _ = c.Run(ctx, newCall(lua.ReleaseInMigration, call.nonce, call.lock()))
}

// follow repeats a command that got an ASK error, because its keys are migrating to another node.
func (d durable) follow(ctx context.Context, node *redis.Client, cmd redis.Cmder) (acknowledged int, err error) {
	wait := d.wait(ctx, node)
	if err := (plain{node}).sendTogether(ctx, []redis.Cmder{redis.NewCmd(ctx, "asking"), cmd, wait}); err != nil {
		return 0, err
	}
	return int(wait.Val()), nil
}

// masterAt returns the client of the master with that address, or nil if no master with slots has
// it.
func masterAt(ctx context.Context, cluster *redis.ClusterClient, addr string) (found *redis.Client) {
	var mu sync.Mutex
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		if node.Options().Addr == addr {
			mu.Lock()
			defer mu.Unlock()
			found = node
		}
		return nil
	})
	return found
}
