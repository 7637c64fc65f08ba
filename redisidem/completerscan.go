package redisidem

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// scanners is how many shards are asked at once. batchSize is how many keys are taken from a shard
// in one request.
const (
	scanners  = 8
	batchSize = 16
)

// look returns the prefixes of the shards in which flows have due indexes. Those that were left
// with keys by the last scan are not asked for, because they probably have keys still. If there is
// an error, the result covers the other shards.
func (c *Completer) look(ctx context.Context, flows []*workers) (map[*workers][]string, error) {
	s := c.service
	if err := s.inFlight.enter(); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()
	found := make(map[*workers][]string, len(flows))
	byName := make(map[string]*workers, len(flows))
	indexes := make([]string, 0, len(flows)*protocol.Shards)
	for _, w := range flows {
		byName[w.flow.cfg.Name] = w
		w.mu.Lock()
		for shard := range protocol.Shards {
			prefix := protocol.ShardPrefix(s.cfg.Namespace, shard)
			if w.known[prefix] {
				found[w] = append(found[w], prefix)
			} else {
				indexes = append(indexes, protocol.DueIndex(prefix, w.flow.cfg.Name))
			}
		}
		w.mu.Unlock()
	}
	existing, err := s.redis.Existing(ctx, indexes, protocol.ScanAsks)
	for _, index := range existing {
		prefix, flow := protocol.SplitDueIndex(index)
		found[byName[flow]] = append(found[byName[flow]], prefix)
	}
	if err == nil {
		c.remember(ctx)
	}
	return found, explain(ctx, "completer", err)
}

// rememberEvery is how often a completer writes down the names of its flows.
const rememberEvery = time.Hour

// remember writes down the names of the flows, by which an Inspector finds their indexes. If it
// fails, the next scan does it.
func (c *Completer) remember(ctx context.Context) {
	last := c.remembered.Load()
	if last != nil && time.Since(*last) < rememberEvery {
		return
	}
	now := time.Now()
	if c.service.redis.RememberFlows(ctx, slices.Sorted(maps.Keys(c.newest))) == nil {
		c.remembered.Store(&now)
	}
}

// shardScan is the state of the scan of one shard.
type shardScan struct {
	prefix string
	until  string // keys due later are left to the next scan; "" before the first request
	first  int64  // the lowest score that the last request left
}

// scan asks shards for due keys. It returns when the last one was handed out, or after the given
// time, so that keys that become due meanwhile do not wait for a long backlog; 0 for any time. It
// returns the lowest score that it left.
//
// It goes in rounds that ask each shard once, so that a shard with many keys does not delay the
// others. The workers begin after the first round, when all scopes with due keys are known. Keys
// that become due after a shard was first asked wait for the next scan, so that a scan ends.
//
// A shard that cannot be asked does not stop the scan. A server that did not answer for one shard
// is not asked for its others, so that an outage costs the time of one request.
func (w *workers) scan(ctx context.Context, prefixes []string, most time.Duration) (first int64, errs error) {
	// Two completers that begin together should not meet in each shard.
	begin := backoff.Below(len(prefixes))
	batches := make([]shardScan, len(prefixes))
	for n := range batches {
		batches[n].prefix = prefixes[(begin+n)%len(prefixes)]
	}
	w.mu.Lock()
	w.known = make(map[string]bool)
	w.mu.Unlock()
	var silent sync.Map // servers that did not answer
	first = protocol.Empty
	wait, cancel := ctx, context.CancelFunc(func() {})
	if most > 0 {
		wait, cancel = context.WithTimeout(ctx, most)
	}
	defer cancel()
	defer context.AfterFunc(wait, w.queue.wake)()
	patience := min(w.completer.cfg.Interval/4, time.Second)
	w.queue.hold()
	defer w.queue.release()
	defer time.AfterFunc(patience, w.queue.release).Stop() // a slow server must not keep the workers idle
	for len(batches) > 0 && ctx.Err() == nil {
		before := w.due.Load()
		more, left, err := w.round(ctx, wait, batches, &silent)
		w.queue.release()
		batches, first, errs = more, min(first, left), errors.Join(errs, err)
		if idle := w.due.Load() == before; len(batches) > 0 && !w.queue.waitForRoom(wait, idle, patience) {
			return 0, errs // keys are due now
		}
	}
	return first, errs
}

// round takes one batch from each shard, and returns the shards that have more. It also returns the
// lowest score that is left in the others.
func (w *workers) round(ctx, wait context.Context, batches []shardScan, silent *sync.Map) (more []shardScan, first int64, errs error) {
	first = protocol.Empty
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range scanners {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(batches) && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				v := batches[n]
				if _, ok := silent.Load(protocol.AnyMaster); ok {
					return
				}
				server := w.completer.service.redis.Master(ctx, v.prefix)
				if _, ok := silent.Load(server); ok {
					continue
				}
				rest, err := w.scanShard(ctx, wait, &v)
				if errors.Is(err, ErrUnavailable) {
					silent.Store(server, true)
				}
				mu.Lock()
				errs = errors.Join(errs, err)
				switch {
				case rest:
					more = append(more, v)
				case err == nil:
					first = min(first, v.first)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return more, first, errs
}

// scanShard takes one batch of due keys from a shard. It reports whether there are more.
func (w *workers) scanShard(ctx, wait context.Context, v *shardScan) (bool, error) {
	share, full, ok := w.queue.wanted(wait)
	if !ok {
		return false, nil
	}
	s := w.completer.service
	// Keys that are handed out stay hidden from other completers until a worker has had time to
	// claim them.
	aside := max(s.cfg.Lease, 2*s.cfg.Timeout)
	due := protocol.Due{
		Index: protocol.DueIndex(v.prefix, w.flow.cfg.Name), Batch: batchSize, PutOff: aside, Until: v.until,
		Share: min(share, batchSize), Without: full,
	}
	hidden := time.Now().Add(aside)
	r, err := s.ask(ctx, "completer", s.redis.NewDue(due))
	if err != nil {
		return false, err
	}
	if r.Status != protocol.StatusOK {
		return false, r.Unexpected()
	}
	h := r.HandedOut()
	v.until, v.first = h.Until, h.First
	if h.First != protocol.Empty {
		w.mu.Lock()
		w.known[v.prefix] = true
		w.mu.Unlock()
	}
	for _, member := range h.Digests {
		w.queue.put(&job{flow: w.flow, prefix: v.prefix, member: member, handed: h.Score, hiddenUntil: hidden})
		w.due.Add(1)
	}
	return h.More(), nil
}
