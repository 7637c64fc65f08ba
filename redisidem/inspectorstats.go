package redisidem

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// drawn is how many Redis keys a server draws at random for statistics.
	drawn = 5000
	// confidence is how many standard deviations Estimate.Error is: 19 of 20 estimates are closer.
	confidence = 1.96
)

// Estimate is a number of keys.
type Estimate struct {
	Count int64
	// Error is how far Count may be off. The true number is within it in 19 of 20 cases, also if
	// Count is 0. Zero means that the keys were counted.
	Error int64
}

// Stats are statistics of all keys.
type Stats struct {
	// Records is how many keys have a record, and States how many are in each state. It has all
	// states. Dead letters are counted by their indexes if the others are estimated.
	Records Estimate
	States  map[KeyState]Estimate
	// Drawn is how many records were drawn at random for the estimates; 0 if all were counted.
	Drawn int
	// Flows are the indexes of flows, by name: of those that were named, and of the others that
	// have unfinished keys in them. They are counted.
	Flows []FlowIndex
}

// FlowIndex is the sizes of the indexes of a flow, of all its versions together.
type FlowIndex struct {
	// Name is the flow's name.
	Name string
	// Due is how many keys a Completer will continue, and Overdue how many of them it may continue
	// already. Entries of records that Redis has lost are counted, until a Completer clears them.
	Due, Overdue int64
	// Dead is how many dead letters there are.
	Dead int64
}

// Stats returns statistics. All keys are counted if no server has more than 10,000 Redis keys.
// Otherwise each server draws 5000 of its Redis keys at random with RANDOMKEY. The share of a state
// among them, times DBSIZE, is the estimate. Keys that have expired are left out, although DBSIZE
// counts them until the server removes them. The cost does not grow with the number of keys.
//
// The indexes of flows are always counted. These are the flows that are named, those that a
// Completer has scanned within the last 400 days, and those of which a key was counted or drawn. A
// rare flow of programs without a Completer may be missing from the result, so name it. Entries
// that an index has lost are not counted: see [Inspector.Reindex].
//
// It returns [ErrInvalid] for a name that no flow can have, [ErrUnavailable], [ErrDamaged] for an
// index that is not one, and [ErrClosed].
func (in *Inspector) Stats(ctx context.Context, flows ...string) (*Stats, error) {
	names, err := flowNames(flows)
	if err != nil {
		return nil, err
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	most, err := s.redis.Largest(ctx)
	if err = explain(ctx, "stats", err); err != nil {
		return nil, err
	}
	stats := &Stats{States: make(map[KeyState]Estimate)}
	for _, state := range KeyStates() {
		stats.States[state] = Estimate{}
	}
	known := maps.Clone(names)
	estimated := most > 2*drawn
	if estimated {
		err = in.estimate(ctx, stats, known)
	} else {
		err = in.count(ctx, stats, known)
	}
	if err != nil {
		return nil, err
	}
	indexes, err := in.indexes(ctx, known)
	if err != nil {
		return nil, err
	}
	if estimated {
		stats.States[KeyDead] = Estimate{Count: deadIn(indexes)}
	}
	stats.Flows = slices.DeleteFunc(indexes, func(i FlowIndex) bool { return i.Due+i.Dead == 0 && !names[i.Name] })
	return stats, nil
}

// deadIn returns how many dead letters some indexes have.
func deadIn(indexes []FlowIndex) (n int64) {
	for _, i := range indexes {
		n += i.Dead
	}
	return n
}

// FlowIndexes counts the indexes of flows, by name: of those that are named, and of those that a
// Completer has scanned within the last 400 days. It is the part of [Inspector.Stats] that programs
// can afford often. One server needs four EXISTS for each flow, and more where keys are due or
// dead; a cluster needs one for each of the 1024 shards.
//
// It returns [ErrInvalid] for a name that no flow can have, [ErrUnavailable], [ErrDamaged] for an
// index that is not one, and [ErrClosed].
func (in *Inspector) FlowIndexes(ctx context.Context, flows ...string) ([]FlowIndex, error) {
	names, err := flowNames(flows)
	if err != nil {
		return nil, err
	}
	if err := in.service.enter(ctx); err != nil {
		return nil, err
	}
	defer in.service.inFlight.leave()
	return in.indexes(ctx, names)
}

// flowNames returns the names of flows as a set.
func flowNames(flows []string) (map[string]bool, error) {
	names := make(map[string]bool)
	for _, name := range flows {
		if !flowName.MatchString(name) {
			return nil, invalid("flows", "must be names of flows: %q", name)
		}
		names[name] = true
	}
	return names, nil
}

// indexes counts the indexes of these flows and of those that completers have scanned.
func (in *Inspector) indexes(ctx context.Context, names map[string]bool) ([]FlowIndex, error) {
	known, err := in.knownFlows(ctx)
	if err = explain(ctx, "stats", err); err != nil {
		return nil, err
	}
	for _, name := range known {
		names[name] = true
	}
	sizes, err := in.service.redis.Indexes(ctx, slices.Sorted(maps.Keys(names)))
	if err = explain(ctx, "stats", err); err != nil {
		return nil, err
	}
	indexes := make([]FlowIndex, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		index := FlowIndex{Name: name}
		if size := sizes[name]; size != nil {
			index.Due, index.Overdue, index.Dead = size.Due, size.Overdue, size.Dead
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}

// knownFlows returns the names of the flows that completers have scanned.
func (in *Inspector) knownFlows(ctx context.Context) ([]string, error) {
	names, err := in.service.redis.KnownFlows(ctx)
	// The hash may have fields of another version.
	return slices.DeleteFunc(names, func(name string) bool { return !flowName.MatchString(name) }), err
}

// count counts all keys, and adds the names of their flows.
func (in *Inspector) count(ctx context.Context, stats *Stats, flows map[string]bool) error {
	seen := make(map[string]bool)
	for page, err := range in.List(ctx, Filter{}, "") {
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			if seen[key.ID] {
				continue
			}
			seen[key.ID] = true
			stats.Records.Count++
			stats.States[key.State] = Estimate{Count: stats.States[key.State].Count + 1}
			if name := protocol.FlowName(key.Flow); name != "" {
				flows[name] = true
			}
		}
	}
	return nil
}

// estimate estimates from keys that each server draws, and adds the names of the flows among them.
func (in *Inspector) estimate(ctx context.Context, stats *Stats, flows map[string]bool) error {
	servers, err := in.service.redis.Draw(ctx, drawn)
	if err = explain(ctx, "stats", err); err != nil {
		return err
	}
	var records share
	states := make(map[KeyState]*share)
	for _, state := range KeyStates() {
		states[state] = &share{}
	}
	own := protocol.ShardPrefix(in.service.cfg.Namespace, 0)
	own = own[:strings.LastIndex(own, "{")+1]
	for _, server := range servers {
		of := len(server.Keys) + server.Expired
		names := slices.DeleteFunc(server.Keys, func(name string) bool { return !strings.HasPrefix(name, own) })
		for _, name := range names {
			if flow, _ := protocol.FlowOfIndex(name); flow != "" {
				flows[flow] = true
			}
		}
		hits := make(map[KeyState]int)
		found := 0
		for batch := range slices.Chunk(placesOf(names), inspectBatch) {
			infos, err := in.inspect(ctx, batch, inspectedFields...)
			if err != nil {
				return err
			}
			for _, info := range infos {
				hits[info.State]++
				if flow := protocol.FlowName(info.Flow); flow != "" {
					flows[flow] = true
				}
			}
			found += len(infos)
		}
		stats.Drawn += found
		records.add(found, of, server.Of)
		for state, sum := range states {
			sum.add(hits[state], of, server.Of)
		}
	}
	stats.Records = records.estimate()
	for state, sum := range states {
		stats.States[state] = sum.estimate()
	}
	return nil
}

// share sums up estimates of several servers.
type share struct{ count, variance float64 }

// add adds a server with n keys, of which hits among of were of the kind.
//
// The variance is that of two more hits and two more misses (Agresti and Coull). So the error is
// right for few hits, too: the share itself would make it 0 for a kind that was not drawn once.
func (s *share) add(hits, of int, n float64) {
	if of == 0 {
		return
	}
	const more = 2
	p := (float64(hits) + more) / (float64(of) + 2*more)
	s.count += n * float64(hits) / float64(of)
	s.variance += n * n * p * (1 - p) / float64(of)
}

func (s *share) estimate() Estimate {
	return Estimate{Count: int64(math.Round(s.count)), Error: int64(math.Ceil(confidence * math.Sqrt(s.variance)))}
}

// OpenFlow is a version of a flow that has unfinished keys.
type OpenFlow struct {
	// Flow is the flow as name/version; empty for keys without a flow.
	Flow string
	// Open is how many keys are not finished, and States in which states they are.
	Open   int
	States map[KeyState]int
	// Oldest is when the oldest of them was created, by the server's clock.
	Oldest time.Time
}

// OpenFlows returns the versions of flows that have unfinished keys, by name and version, and the
// keys without a flow first. A version without unfinished keys is not in it, and can go: no key
// needs its program any more. Dead letters count as unfinished. It reads all records, as
// [Inspector.List] does, and returns the same errors.
func (in *Inspector) OpenFlows(ctx context.Context) ([]OpenFlow, error) {
	flows := make(map[string]*OpenFlow)
	seen := make(map[protocol.Name]bool)
	open := slices.DeleteFunc(KeyStates(), func(s KeyState) bool { return s == KeyFinished || s == KeyUnreadable })
	for page, err := range in.List(ctx, Filter{States: open}, "") {
		if err != nil {
			return nil, err
		}
		for _, key := range page.Keys {
			if seen[key.id.Name] {
				continue
			}
			seen[key.id.Name] = true
			f := flows[key.Flow]
			if f == nil {
				f = &OpenFlow{Flow: key.Flow, States: make(map[KeyState]int), Oldest: key.CreatedAt}
				flows[key.Flow] = f
			}
			f.Open++
			f.States[key.State]++
			if key.CreatedAt.Before(f.Oldest) {
				f.Oldest = key.CreatedAt
			}
		}
	}
	all := make([]OpenFlow, 0, len(flows))
	for _, name := range slices.Sorted(maps.Keys(flows)) {
		all = append(all, *flows[name])
	}
	return all, nil
}
