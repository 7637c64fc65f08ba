package redisidem

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// OpenVersion is a version of a flow that has unfinished keys.
type OpenVersion struct {
	// Version is that of the flow.
	Version int
	// Open is how many unfinished keys are in the due index, from which completers take them, and
	// Dead is how many dead letters there are.
	Open, Dead int64
}

// OpenVersions returns the versions of a recoverable flow that have unfinished keys, the earliest
// first. flow is the flow's name. A version that is not in the result needs no program any more,
// unless programs without RecoverAfter made its keys: [Inspector.OpenFlows] counts these, too.
//
// It reads the flow's indexes, shard by shard, and two fields of each record in them, 100 records
// with one request. So its cost grows with the flow's unfinished keys, and not with all keys. Keys
// that begin or end meanwhile may be counted or not.
//
// It returns [ErrInvalid] for a name that no flow can have, [ErrUnavailable], [ErrDamaged] for an
// index that is not one, and [ErrClosed].
func (in *Inspector) OpenVersions(ctx context.Context, flow string) ([]OpenVersion, error) {
	if !flowName.MatchString(flow) {
		return nil, invalid("flow", "must be the name of a flow: %q", flow)
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	indexes, err := s.redis.IndexesOf(ctx, flow)
	if err = explain(ctx, "versions", err); err != nil {
		return nil, err
	}
	versions := make(map[int]*OpenVersion)
	for _, index := range indexes {
		if err := in.countVersions(ctx, index, versions); err != nil {
			return nil, explain(ctx, "versions", err)
		}
	}
	all := make([]OpenVersion, 0, len(versions))
	for _, v := range slices.SortedFunc(maps.Values(versions), func(a, b *OpenVersion) int { return cmp.Compare(a.Version, b.Version) }) {
		all = append(all, *v)
	}
	return all, nil
}

// countVersions counts the keys of an index by their versions.
func (in *Inspector) countVersions(ctx context.Context, index string, versions map[int]*OpenVersion) error {
	ids, err := in.members(ctx, index)
	if err != nil {
		return err
	}
	name, dead := protocol.FlowOfIndex(index)
	for batch := range slices.Chunk(ids, inspectBatch) {
		read, err := in.service.redis.Peek(ctx, batch, fieldFlow, fieldPoint)
		if err != nil {
			return err
		}
		for _, values := range read {
			// A record that is gone has neither, and one of another flow was made in its place.
			if len(values) == 0 || values[1] == Finished || protocol.FlowName(values[0]) != name {
				continue
			}
			n, err := strconv.Atoi(strings.TrimPrefix(values[0], name+"/"))
			if err != nil {
				continue // a damaged record
			}
			v := versions[n]
			if v == nil {
				v = &OpenVersion{Version: n}
				versions[n] = v
			}
			if dead {
				v.Dead++
			} else {
				v.Open++
			}
		}
	}
	return nil
}
