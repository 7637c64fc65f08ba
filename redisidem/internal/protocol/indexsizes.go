package protocol

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Index is the sizes of a flow's indexes in all shards.
type Index struct {
	Due, Overdue int64 // keys in the due index, and those of them that are due now
	Dead         int64
}

// knownLife is how long a flow is remembered after the last completer has scanned flows.
const knownLife = auditLife

// RememberFlows remembers that there are completers for flows, by their names. It takes one
// request.
func (c *Client) RememberFlows(ctx context.Context, flows []string) error {
	key := knownFlowsKey(c.namespace)
	words := append(make([]any, 0, 2+2*len(flows)), "hset", key)
	for _, flow := range flows {
		words = append(words, flow, "")
	}
	return c.read(ctx, []redis.Cmder{redis.NewIntCmd(ctx, words...), redis.NewBoolCmd(ctx, "pexpire", key, knownLife.Milliseconds())})
}

// KnownFlows returns the names of the flows that completers have scanned, and of the flows that are
// paused. It takes one request.
func (c *Client) KnownFlows(ctx context.Context) ([]string, error) {
	known := redis.NewMapStringStringCmd(ctx, "hgetall", knownFlowsKey(c.namespace))
	turns := redis.NewMapStringStringCmd(ctx, "hgetall", TurnsKey(c.namespace)) // also of versions that remember no flows
	if err := c.read(ctx, []redis.Cmder{known, turns}); err != nil {
		return nil, err
	}
	flows := turns.Val()
	for _, p := range parsePauses(flows[pausesField]) {
		name, _, _ := strings.Cut(p.Flow, "/")
		flows[name] = ""
	}
	delete(flows, pausesField)
	maps.Copy(flows, known.Val())
	return slices.Collect(maps.Keys(flows)), nil
}

// Indexes counts the entries of the due indexes and dead letters of flows, by the flow's name.
// Flows without any are not in the result. An operation lasts as long as its requests, each of
// which has the client's timeout.
func (c *Client) Indexes(ctx context.Context, flows []string) (map[string]*Index, error) {
	sizes := make(map[string]*Index)
	existing, err := c.IndexesOf(ctx, flows...)
	if err != nil || len(existing) == 0 {
		return sizes, err
	}
	clock := redis.NewTimeCmd(ctx, "time")
	if err := c.read(ctx, []redis.Cmder{clock}); err != nil {
		return nil, err
	}
	return sizes, c.addSizes(ctx, existing, strconv.FormatInt(clock.Val().UnixMilli(), 10), sizes)
}

// IndexesOf returns the due indexes and dead letters of flows that exist. It lasts as long as
// [Client.Existing].
func (c *Client) IndexesOf(ctx context.Context, flows ...string) ([]string, error) {
	names := make([]string, 0, 2*Shards*len(flows))
	for _, flow := range flows {
		for shard := range Shards {
			prefix := ShardPrefix(c.namespace, shard)
			names = append(names, DueIndex(prefix, flow), DeadLetters(prefix, flow))
		}
	}
	return c.Existing(ctx, names, operatorAsks)
}

// DeadLettersOf returns the dead letters of flows that exist. It lasts as long as
// [Client.Existing].
func (c *Client) DeadLettersOf(ctx context.Context, flows ...string) ([]string, error) {
	names := make([]string, 0, Shards*len(flows))
	for _, flow := range flows {
		for shard := range Shards {
			names = append(names, DeadLetters(ShardPrefix(c.namespace, shard), flow))
		}
	}
	return c.Existing(ctx, names, operatorAsks)
}

// ShardOfIndex returns the shard and the flow's name of an index that [Client.IndexesOf] or
// [Client.DeadLettersOf] has returned.
func ShardOfIndex(index string) (shard int, flow string) {
	prefix, _, _ := strings.Cut(index, "}:")
	n, _ := strconv.ParseUint(prefix[strings.LastIndexByte(prefix, '{')+1:], 16, 16)
	flow, _ = FlowOfIndex(index)
	return int(n), flow
}

// FlowOfIndex returns the name of the flow whose due index or dead letters have that Redis key, and
// which of them it is. The name is "" for another Redis key.
func FlowOfIndex(key string) (flow string, dead bool) {
	_, rest, _ := strings.Cut(key, "}:")
	kind, flow, _ := strings.Cut(rest, ":")
	if kind != "due" && kind != "dead" {
		return "", false
	}
	return flow, kind == "dead"
}

// addSizes adds the sizes of some due indexes and dead letters.
func (c *Client) addSizes(ctx context.Context, keys []string, now string, sizes map[string]*Index) error {
	var cmds []redis.Cmder
	var to []*int64
	for _, k := range keys {
		flow, dead := FlowOfIndex(k)
		size := sizes[flow]
		if size == nil {
			size = new(Index)
			sizes[flow] = size
		}
		count := func(n *int64, from, until string) {
			cmds, to = append(cmds, redis.NewIntCmd(ctx, "zcount", k, from, until)), append(to, n)
		}
		if dead {
			count(&size.Dead, now, "+inf") // the others have expired
		} else {
			count(&size.Due, "-inf", "+inf")
			count(&size.Overdue, "-inf", now)
		}
	}
	for len(cmds) > 0 {
		n := min(len(cmds), 512)
		if err := c.read(ctx, cmds[:n]); err != nil {
			return err
		}
		for i, cmd := range cmds[:n] {
			*to[i] += cmd.(*redis.IntCmd).Val() //nolint:forcetypeassert // made above
		}
		cmds, to = cmds[n:], to[n:]
	}
	return nil
}
