package protocol

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Inspection is a record and its lock, as they were one after the other.
type Inspection struct {
	// Pairs is the record as field, value, ..., with the fields that were asked for. It is empty
	// without a record.
	Pairs []string
	// Life is the rest of the record's life, and LockLife that of the lock. Both are negative for a
	// Redis key without an expiry.
	Life, LockLife time.Duration
	Locked         bool
	At             time.Time // the server's time when it was read
	Err            error     // a [DamagedError] for a Redis key that is not a hash
}

// Inspect reads records with their locks. Without fields it reads whole records. It takes one
// request to each server and changes nothing.
func (c *Client) Inspect(ctx context.Context, ids []Identity, fields ...string) ([]Inspection, error) {
	const perKey = 3
	cmds := make([]redis.Cmder, 0, perKey*len(ids)+1)
	words := make([]any, 2, 2+len(fields))
	words[0] = "hmget"
	for _, f := range fields {
		words = append(words, f)
	}
	for _, id := range ids {
		var record redis.Cmder
		if len(fields) == 0 {
			record = redis.NewMapStringStringCmd(ctx, "hgetall", id.Record)
		} else {
			words[1] = id.Record
			record = redis.NewSliceCmd(ctx, slices.Clone(words)...)
		}
		cmds = append(cmds, record, redis.NewIntCmd(ctx, "pttl", id.Record), redis.NewIntCmd(ctx, "pttl", id.Lock))
	}
	now := redis.NewTimeCmd(ctx, "time")
	if err := c.readEach(ctx, append(cmds, now)); err != nil {
		return nil, err
	}
	all := make([]Inspection, len(ids))
	for i := range all {
		record, life, lock := cmds[perKey*i], cmds[perKey*i+1], cmds[perKey*i+2]
		v := &all[i]
		v.At = now.Val().UTC()
		v.Life, _ = lifeOf(life)
		v.LockLife, v.Locked = lifeOf(lock)
		v.Err = wrongType(record.Err())
		switch record := record.(type) {
		case *redis.MapStringStringCmd:
			for field, value := range record.Val() {
				v.Pairs = append(v.Pairs, field, value)
			}
		case *redis.SliceCmd:
			for n, value := range record.Val() {
				if text, ok := value.(string); ok {
					v.Pairs = append(v.Pairs, fields[n], text)
				}
			}
		}
	}
	return all, nil
}

// Peek reads some fields of records, in the order of the arguments. An absent field is "". It costs
// less than [Client.Inspect]. The values are nil for a Redis key of another type.
func (c *Client) Peek(ctx context.Context, ids []Identity, fields ...string) ([][]string, error) {
	return c.peek(ctx, ids, fields)
}

// PeekAt is [Client.Peek] with a server's time of the reading.
func (c *Client) PeekAt(ctx context.Context, ids []Identity, fields ...string) (values [][]string, at time.Time, err error) {
	now := redis.NewTimeCmd(ctx, "time")
	values, err = c.peek(ctx, ids, fields, now)
	return values, now.Val().UTC(), err
}

// peek sends more commands with those that read the fields.
func (c *Client) peek(ctx context.Context, ids []Identity, fields []string, more ...redis.Cmder) ([][]string, error) {
	cmds := make([]redis.Cmder, len(ids), len(ids)+len(more))
	for i, id := range ids {
		words := append(make([]any, 0, 2+len(fields)), "hmget", id.Record)
		for _, f := range fields {
			words = append(words, f)
		}
		cmds[i] = redis.NewSliceCmd(ctx, words...)
	}
	if err := c.readEach(ctx, append(cmds, more...)); err != nil {
		return nil, err
	}
	values := make([][]string, len(ids))
	for i, cmd := range cmds {
		for _, value := range cmd.(*redis.SliceCmd).Val() { //nolint:forcetypeassert // made above
			text, _ := value.(string)
			values[i] = append(values[i], text)
		}
	}
	return values, nil
}

// lifeOf reads the reply to PTTL.
func lifeOf(cmd redis.Cmder) (life time.Duration, exists bool) {
	ms := cmd.(*redis.IntCmd).Val() //nolint:forcetypeassert // of Inspect
	if ms < 0 {
		return -1, ms != -2
	}
	return remaining(ms), true
}

// read sends commands that read, and repeats them until each has an answer.
func (c *Client) read(ctx context.Context, cmds []redis.Cmder) error {
	if err := c.readEach(ctx, cmds); err != nil {
		return err
	}
	return wrongType(firstError(cmds))
}

// readEach is read, but commands on Redis keys of another type keep their errors.
func (c *Client) readEach(ctx context.Context, cmds []redis.Cmder) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return Repeat(ctx, func(ctx context.Context) error {
		if err := ctx.Err(); err != nil {
			return unsentError{err}
		}
		sent := (plain{c.redis}).sendTogether(ctx, cmds)
		if sent == nil {
			return nil
		}
		answered := true
		for _, cmd := range cmds {
			switch err := cmd.Err(); {
			case err == nil, errors.Is(err, redis.Nil):
			case redis.HasErrorPrefix(err, "WRONGTYPE"):
				answered = false
			default:
				return err
			}
		}
		if answered {
			return sent
		}
		return nil
	})
}

// DueAt returns when a completer may continue keys of flows, by their due indexes. It is the zero
// time for a key that is not there, or that has no flow. flows are the flows of the keys, as
// name/version.
func (c *Client) DueAt(ctx context.Context, ids []Identity, flows []string) ([]time.Time, error) {
	due := make([]time.Time, len(ids))
	var cmds []redis.Cmder
	var of []int
	for i, id := range ids {
		if name := FlowName(flows[i]); name != "" {
			cmds, of = append(cmds, redis.NewFloatCmd(ctx, "zscore", id.DueIndex(name), id.Digest)), append(of, i)
		}
	}
	if len(cmds) == 0 {
		return due, nil
	}
	if err := c.read(ctx, cmds); err != nil {
		return nil, err
	}
	for n, cmd := range cmds {
		if score := cmd.(*redis.FloatCmd).Val(); cmd.Err() == nil && score > 0 && score < math.MaxInt64/2 { //nolint:forcetypeassert // made above
			due[of[n]] = time.UnixMilli(int64(score)).UTC()
		}
	}
	return due, nil
}

// eachMaster runs a function for each master side by side. It passes the master's name, which is
// [AnyMaster] outside of a cluster.
func (c *Client) eachMaster(ctx context.Context, do func(ctx context.Context, name string, node *redis.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	switch client := c.redis.(type) {
	case *redis.ClusterClient:
		return client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return do(ctx, node.Options().Addr, node)
		})
	case *redis.Client:
		return do(ctx, AnyMaster, client)
	}
	return nil
}
