package protocol

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
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
// less than [Client.Inspect]. The result is nil for a Redis key of another type.
func (c *Client) Peek(ctx context.Context, ids []Identity, fields ...string) ([][]string, error) {
	cmds := make([]redis.Cmder, len(ids))
	for i, id := range ids {
		words := append(make([]any, 0, 2+len(fields)), "hmget", id.Record)
		for _, f := range fields {
			words = append(words, f)
		}
		cmds[i] = redis.NewSliceCmd(ctx, words...)
	}
	if err := c.readEach(ctx, cmds); err != nil {
		return nil, err
	}
	all := make([][]string, len(ids))
	for i, cmd := range cmds {
		for _, value := range cmd.(*redis.SliceCmd).Val() { //nolint:forcetypeassert // made above
			text, _ := value.(string)
			all[i] = append(all[i], text)
		}
	}
	return all, nil
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
		sent := (plain{c.redis}).send(ctx, cmds)
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

// Position is how far a scan of all masters has come: the cursor of each master that it has not
// finished. The zero value is the beginning.
type Position map[string]uint64

// ErrPosition reports that a position has a master that the cluster does not have.
var ErrPosition = errors.New("the cluster has other masters than when the scan began")

// String returns the position as text; "" for the beginning and for the end.
func (p Position) String() string {
	words := make([]string, 0, len(p))
	for _, master := range slices.Sorted(maps.Keys(p)) {
		words = append(words, strconv.FormatUint(p[master], 10)+"@"+master)
	}
	return strings.Join(words, ",")
}

// ParsePosition reads a position from text.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return nil, nil
	}
	p := make(Position)
	for word := range strings.SplitSeq(text, ",") {
		cursor, master, ok := strings.Cut(word, "@")
		n, err := strconv.ParseUint(cursor, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q is not a position", word)
		}
		p[master] = n
	}
	return p, nil
}

// Scan does one step of a scan for Redis keys by a pattern. Each master looks at about count of its
// keys. The result has no key twice, but a key of an earlier step may come again. The next position
// is empty at the end.
func (c *Client) Scan(ctx context.Context, pattern string, count int, from Position) (keys []string, next Position, err error) {
	var mu sync.Mutex
	met := 0
	err = c.eachMaster(ctx, func(ctx context.Context, name string, node *redis.Client) error {
		cursor, unfinished := from[name]
		if !unfinished && len(from) > 0 {
			return nil
		}
		var found []string
		err := Repeat(ctx, func(ctx context.Context) (err error) {
			found, cursor, err = node.Scan(ctx, from[name], pattern, int64(count)).Result()
			return err
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		met++
		keys = append(keys, found...)
		if cursor != 0 {
			if next == nil {
				next = make(Position)
			}
			next[name] = cursor
		}
		return nil
	})
	if err == nil && met < len(from) {
		err = ErrPosition
	}
	slices.Sort(keys)
	return slices.Compact(keys), next, err
}

// RecordPattern returns the pattern of the records of a namespace.
func RecordPattern(namespace string) string {
	return escapePattern(namespace) + ":{???}:" + strings.Repeat("?", nameLength)
}

// escapePattern returns a pattern that matches a text only.
func escapePattern(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}

// SplitRecord returns the shard's prefix and the digest in the Redis key of a record. It reports
// false for another Redis key.
func SplitRecord(record string) (prefix, digest string, ok bool) {
	if _, ok = NameOf(record); !ok {
		return "", "", false
	}
	prefix, digest = record[:len(record)-nameLength], record[len(record)-nameLength:]
	return prefix, digest, strings.HasSuffix(prefix, "}:")
}

// Find returns the place of the record with a digest, in whichever shard it is. It reports false if
// there is no such record. It takes a few requests.
func (c *Client) Find(ctx context.Context, digest string) (id Identity, ok bool, err error) {
	records := make([]string, Shards)
	for shard := range records {
		records[shard] = ShardPrefix(c.namespace, shard) + digest
	}
	found, err := c.Existing(ctx, records)
	if len(found) == 0 {
		return Identity{}, false, err
	}
	id, ok = IdentityIn(found[0][:len(found[0])-len(digest)], digest)
	return id, ok, nil
}

// Largest returns how many Redis keys the master with most of them has.
func (c *Client) Largest(ctx context.Context) (most int64, err error) {
	var mu sync.Mutex
	err = c.eachMaster(ctx, func(ctx context.Context, _ string, node *redis.Client) error {
		n, err := size(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		most = max(most, n)
		return err
	})
	return most, err
}

// size returns how many Redis keys a server has.
func size(ctx context.Context, node *redis.Client) (n int64, err error) {
	err = Repeat(ctx, func(ctx context.Context) (err error) {
		n, err = node.DBSize(ctx).Result()
		return err
	})
	return n, err
}

// Drawn are Redis keys that were drawn from a master at random, each perhaps several times.
type Drawn struct {
	Keys []string
	Of   int64 // how many Redis keys the master has
}

// Draw draws n Redis keys from each master.
func (c *Client) Draw(ctx context.Context, n int) (all []Drawn, err error) {
	const batch = 1000
	var mu sync.Mutex
	err = c.eachMaster(ctx, func(ctx context.Context, _ string, node *redis.Client) error {
		var d Drawn
		var err error
		if d.Of, err = size(ctx, node); err != nil {
			return err
		}
		for left := n; left > 0 && d.Of > 0; left -= batch {
			cmds := make([]redis.Cmder, min(left, batch))
			for i := range cmds {
				cmds[i] = redis.NewStringCmd(ctx, "randomkey")
			}
			if err := Repeat(ctx, func(ctx context.Context) error { return (plain{node}).send(ctx, cmds) }); err != nil {
				return err
			}
			for _, cmd := range cmds {
				if key := cmd.(*redis.StringCmd).Val(); key != "" { //nolint:forcetypeassert // made above
					d.Keys = append(d.Keys, key)
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
		return nil
	})
	return all, err
}

// Index is the sizes of a flow's indexes in all shards.
type Index struct {
	Due, Overdue int64 // keys in the due index, and those of them that are due now
	Dead         int64
}

// Scanned returns the names of the flows that completers have scanned within the last minute.
func (c *Client) Scanned(ctx context.Context) ([]string, error) {
	cmd := redis.NewMapStringStringCmd(ctx, "hgetall", TurnsKey(c.namespace))
	if err := c.read(ctx, []redis.Cmder{cmd}); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(cmd.Val())), nil
}

// Indexes counts the entries of the due indexes and dead letters of flows, by the flow's name.
// Flows without any are not in the result. An operation lasts as long as its requests, each of
// which has the client's timeout.
func (c *Client) Indexes(ctx context.Context, flows []string) (map[string]*Index, error) {
	names := make([]string, 0, 2*Shards*len(flows))
	for _, flow := range flows {
		for shard := range Shards {
			prefix := ShardPrefix(c.namespace, shard)
			names = append(names, DueIndex(prefix, flow), DeadLetters(prefix, flow))
		}
	}
	sizes := make(map[string]*Index)
	existing, err := c.Existing(ctx, names)
	if err != nil || len(existing) == 0 {
		return sizes, err
	}
	clock := redis.NewTimeCmd(ctx, "time")
	if err := c.read(ctx, []redis.Cmder{clock}); err != nil {
		return nil, err
	}
	return sizes, c.addSizes(ctx, existing, strconv.FormatInt(clock.Val().UnixMilli(), 10), sizes)
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
