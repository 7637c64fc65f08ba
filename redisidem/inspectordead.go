package redisidem

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// ofDead reports whether a list is of dead letters only, which have an index.
func (f *Filter) ofDead() bool {
	return len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s KeyState) bool { return s != KeyDead })
}

// deadPosition is how far a list of dead letters has come: behind a member of the index of a shard
// and a flow. The zero value is the beginning. Lists go by shard, flow and member.
type deadPosition struct {
	shard        int
	flow, member string
}

// deadPrefix begins the text of a deadPosition.
const deadPrefix = "dead:"

func (p deadPosition) String() string {
	return deadPrefix + strings.Join([]string{strconv.Itoa(p.shard), p.flow, p.member}, ":")
}

// parseDeadPosition reads a position from text.
func parseDeadPosition(text string) (p deadPosition, err error) {
	if text == "" {
		return p, nil
	}
	rest, ok := strings.CutPrefix(text, deadPrefix)
	words := strings.Split(rest, ":")
	if ok = ok && len(words) == 3 && flowName.MatchString(words[1]); ok {
		p.shard, err = strconv.Atoi(words[0])
		p.flow, p.member = words[1], words[2]
		_, ok = protocol.NameOf(p.member)
	}
	if !ok || err != nil || p.shard < 0 || p.shard >= protocol.Shards {
		return deadPosition{}, invalid("cursor", "must be from a page of dead letters: %q", text)
	}
	return p, nil
}

// listDead is List for dead letters. It reads the records of the entries of their indexes.
func (in *Inspector) listDead(ctx context.Context, f *Filter, cursor string, yield func(Page, error) bool) {
	from, err := parseDeadPosition(cursor)
	if err != nil {
		yield(Page{}, err)
		return
	}
	err = in.eachDead(ctx, f.Flow, from, func(ids []identity, next string) error {
		infos, err := in.inspect(ctx, ids, inspectedFields...)
		if err != nil {
			return err
		}
		page := Page{Records: len(ids), Next: next}
		page.add(f, infos)
		return goOn(yield(page, nil))
	})
	if err != nil && !errors.Is(err, errLeft) {
		yield(Page{}, err)
	}
}

// eachDead calls do with batches of the entries of the indexes of dead letters behind a position,
// and with the cursor behind each batch, which is empty for the last one. flow is that of a Filter.
func (in *Inspector) eachDead(ctx context.Context, flow string, from deadPosition, do func(ids []identity, next string) error) error {
	shards, err := in.deadIndexes(ctx, flow)
	if err != nil {
		return err
	}
	var batch []identity
	for shard := from.shard; shard < protocol.Shards; shard++ {
		for _, flow := range shards[shard] {
			if shard == from.shard && flow < from.flow {
				continue
			}
			ids, err := in.members(ctx, protocol.DeadLetters(protocol.ShardPrefix(in.service.cfg.Namespace, shard), flow))
			if err != nil {
				return explain(ctx, "list", err)
			}
			slices.SortFunc(ids, func(a, b identity) int { return strings.Compare(a.Digest, b.Digest) })
			for _, id := range ids {
				if shard == from.shard && flow == from.flow && id.Digest <= from.member {
					continue
				}
				if batch = append(batch, id); len(batch) < inspectBatch {
					continue
				}
				if err := do(batch, deadPosition{shard, flow, id.Digest}.String()); err != nil {
					return err
				}
				batch = nil
			}
		}
	}
	return do(batch, "")
}

// deadIndexes returns the names of the flows that have dead letters, by shard and in order. flow is
// that of a Filter; without one, the flows are those that completers have scanned.
func (in *Inspector) deadIndexes(ctx context.Context, flow string) (shards [protocol.Shards][]string, err error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return shards, err
	}
	defer s.inFlight.leave()
	name, _, _ := strings.Cut(flow, "/")
	flows := []string{name}
	if name == "" {
		if flows, err = in.knownFlows(ctx); err != nil {
			return shards, explain(ctx, "list", err)
		}
	}
	existing, err := s.redis.DeadLettersOf(ctx, flows...)
	for _, index := range existing {
		shard, flow := protocol.ShardOfIndex(index)
		shards[shard] = append(shards[shard], flow)
	}
	for _, flows := range &shards {
		slices.Sort(flows)
	}
	return shards, explain(ctx, "list", err)
}

// members returns the places of the records in the index of a flow in a shard.
func (in *Inspector) members(ctx context.Context, index string) ([]identity, error) {
	bounded, cancel := in.service.bounded(ctx)
	defer cancel()
	members, err := in.service.redis.Members(bounded, index)
	if err != nil {
		return nil, err
	}
	prefix, _, _ := strings.Cut(index, "}:")
	ids := make([]identity, 0, len(members))
	for _, member := range members {
		if id, ok := protocol.IdentityIn(prefix+"}:", member); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
