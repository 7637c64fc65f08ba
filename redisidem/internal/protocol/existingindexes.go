package protocol

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	// ScanAsks is how many keys a completer's scan asks for with one command. It occupies a server
	// for up to 3 ms if all exist, but takes a quarter of the commands at rest.
	ScanAsks = 4096
	// operatorAsks is how many keys an operator's commands ask for with one command. It occupies a
	// server for about 0.5 ms.
	operatorAsks = 512
	// mostPiped bounds the keys in a pipeline to one server. An embedded server that is connected
	// by a pipe stops reading when it replies, so that a longer request would never be sent.
	mostPiped = 32
	// narrowing is how many parts a group of keys is divided into if only some of them exist.
	narrowing = 8
)

// Existing returns those of some due indexes that exist. EXISTS counts how many of its keys exist.
// One command therefore answers for all indexes if none exists, and a few commands find the ones
// that do. In a cluster, the keys of one command must be in one slot, so it takes a command for
// each shard.
//
// The masters of a cluster are asked side by side. The error of one does not keep the others from
// being asked; the result covers them. An operation lasts as long as its requests, each of which
// has the client's timeout, and asks for most keys at once.
func (c *Client) Existing(ctx context.Context, indexes []string, most int) (existing []string, err error) {
	if _, cluster := c.redis.(*redis.ClusterClient); !cluster {
		return c.existingOn(ctx, slices.Collect(slices.Chunk(indexes, most)), mostPiped)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, groups := range c.byMaster(ctx, byShard(indexes)) {
		wg.Go(func() {
			found, failed := c.existingOn(ctx, groups, most)
			mu.Lock()
			defer mu.Unlock()
			existing, err = append(existing, found...), errors.Join(err, failed)
		})
	}
	wg.Wait()
	return existing, err
}

// byShard groups keys by their shard.
func byShard(keys []string) [][]string {
	shards := make(map[string][]string, Shards)
	for _, k := range keys {
		prefix, _ := SplitDueIndex(k)
		shards[prefix] = append(shards[prefix], k)
	}
	groups := make([][]string, 0, len(shards))
	for _, group := range shards {
		groups = append(groups, group)
	}
	return groups
}

// byMaster returns the groups of each master. It takes no longer than one request, even if no node
// of the cluster answers.
func (c *Client) byMaster(ctx context.Context, groups [][]string) map[string][][]string {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	masters := make(map[string][][]string)
	for _, group := range groups {
		master := c.Master(ctx, group[0])
		masters[master] = append(masters[master], group)
	}
	return masters
}

// existingOn is Existing for groups of keys on one server. The keys of a group are asked for with
// one command, and those of several groups, up to most of them, with one request.
func (c *Client) existingOn(ctx context.Context, groups [][]string, most int) (existing []string, err error) {
	for len(groups) > 0 {
		n, keys := 0, 0
		for n < len(groups) && (n == 0 || keys+len(groups[n]) <= most) {
			keys += len(groups[n])
			n++
		}
		found, parts, failed := c.existingOf(ctx, groups[:n])
		existing = append(existing, found...)
		if failed != nil {
			err = errors.Join(err, failed)
			if _, reply := errors.AsType[redis.Error](failed); !reply {
				return existing, err // the server does not answer
			}
		}
		groups = append(parts, groups[n:]...)
	}
	return existing, err
}

// existingOf sends one request. It returns the keys of groups that exist completely, and the parts
// of groups that exist partly. A group that the server refuses does not keep the others from having
// their answer: it is asked for again, and the error is about what is left in the end.
func (c *Client) existingOf(ctx context.Context, groups [][]string) (existing []string, parts [][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err = Repeat(ctx, func(ctx context.Context) error {
		cmds := make([]redis.Cmder, len(groups))
		for i, group := range groups {
			words := make([]any, 1, 1+len(group))
			words[0] = "exists"
			for _, k := range group {
				words = append(words, k)
			}
			cmds[i] = redis.NewIntCmd(ctx, words...)
		}
		if err := ctx.Err(); err != nil {
			return unsentError{err}
		}
		err := (plain{c.redis}).sendTogether(ctx, cmds)
		if _, reply := errors.AsType[redis.Error](err); err != nil && !reply {
			return err // commands may lack an answer
		}
		var refused [][]string
		err = nil
		for i, group := range groups {
			n, failed := cmds[i].(*redis.IntCmd).Result()
			switch {
			case len(group) > 1 && isSplit(failed):
				parts = slices.AppendSeq(parts, slices.Chunk(group, 1))
			case failed != nil:
				refused, err = append(refused, group), cmp.Or(err, failed)
			case int(n) == len(group):
				existing = append(existing, group...)
			case n > 0:
				parts = slices.AppendSeq(parts, slices.Chunk(group, (len(group)+narrowing-1)/narrowing))
			}
		}
		groups = refused
		return err
	})
	return existing, parts, err
}

// isSplit reports whether a server refused several keys that it would answer for one by one: their
// slot migrates, or it is in a cluster that the client does not know of.
func isSplit(err error) bool {
	return redis.IsTryAgainError(err) || redis.HasErrorPrefix(err, "CROSSSLOT")
}

// SplitDueIndex returns the shard's prefix and the flow's name in the Redis key of a due index.
func SplitDueIndex(index string) (prefix, flow string) {
	prefix, flow, _ = strings.Cut(index, "}:due:")
	return prefix + "}:", flow
}
