package redisidem

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// scanners is how many shards are asked at once. batchSize is how many keys are taken from a shard
// in one request.
const (
	scanners  = 8
	batchSize = 16
)

// shardScan is the state of the scan of one shard.
type shardScan struct {
	prefix string
	until  string // keys due later are left to the next scan; "" before the first request
}

// scan asks all shards for due keys, and returns when the workers have taken the last one.
//
// It goes in rounds that take one batch from each shard, so that a shard with many keys does not
// delay the others. Keys that become due after a shard was first asked wait for the next scan, so
// that a scan ends.
//
// A shard that cannot be asked does not stop the scan. A server that did not answer for one shard
// is not asked for its others, so that an outage costs the time of one request.
func (w *workers) scan(ctx context.Context) error {
	// Two completers that begin together should not meet in each shard.
	first := backoff.Below(protocol.Shards)
	batches := make([]shardScan, protocol.Shards)
	for n := range batches {
		batches[n].prefix = protocol.ShardPrefix(w.completer.service.cfg.Namespace, (first+n)%protocol.Shards)
	}
	var silent sync.Map // servers that did not answer
	var errs error
	for len(batches) > 0 && ctx.Err() == nil {
		var err error
		batches, err = w.round(ctx, batches, &silent)
		errs = errors.Join(errs, err)
	}
	return errs
}

// round takes one batch from each shard, and returns the shards that have more.
func (w *workers) round(ctx context.Context, batches []shardScan, silent *sync.Map) (more []shardScan, errs error) {
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
				full, err := w.scanShard(ctx, &v)
				if errors.Is(err, ErrUnavailable) {
					silent.Store(server, true)
				}
				mu.Lock()
				errs = errors.Join(errs, err)
				if full {
					more = append(more, v)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return more, errs
}

// scanShard takes one batch of due keys from a shard. It reports whether there may be more.
func (w *workers) scanShard(ctx context.Context, v *shardScan) (bool, error) {
	s := w.completer.service
	// Keys that are handed out stay hidden from other completers until a worker has had time to
	// claim them.
	aside := max(s.cfg.Lease, 2*s.cfg.Timeout)
	due := protocol.Due{Index: protocol.DueIndex(v.prefix, w.flow.cfg.Name), Batch: batchSize, PutOff: aside, Until: v.until}
	r, err := s.ask(ctx, "completer", s.redis.NewDue(due))
	if err != nil {
		return false, err
	}
	if r.Status != protocol.StatusOK {
		return false, r.Unexpected()
	}
	members, handedOut, until := r.Due()
	v.until = until
	for _, member := range members {
		select {
		case w.jobs <- job{w.flow, v.prefix, member, handedOut}:
			w.due.Add(1)
		case <-ctx.Done():
			return false, nil // the keys become due again
		}
	}
	return len(members) == batchSize, nil
}

// SweepResult counts the keys of one [Completer.Sweep].
type SweepResult struct {
	// Due is how many keys the sweep received. Finished were completed, Failed returned an error,
	// and DeadLettered became dead letters. The others had another worker, were finished already or
	// wait for their clients.
	Due, Finished, Failed, DeadLettered int64
}

// Sweep scans for keys once, continues those that are due, and blocks until that is done. It is
// [Completer.Run] for tests and for programs with a scheduler of their own, and does not take turns
// with other processes. It ends as Run does when ctx ends or the service is closed.
//
// It returns [ErrUnavailable] if a server did not answer, and [ErrDamaged] if a shard's index is
// not a sorted set. In both cases the result covers the other shards. It returns [ErrClosed] if the
// service is closed. A server that did not answer for one shard is not asked for its others; in a
// cluster the other masters still are.
func (c *Completer) Sweep(ctx context.Context) (SweepResult, error) {
	var mu sync.Mutex
	var all SweepResult
	var errs error
	err := c.each(ctx, func(ctx context.Context, w *workers) error {
		err := w.scan(ctx)
		w.stop()
		mu.Lock()
		defer mu.Unlock()
		all.Due += w.due.Load()
		all.Finished += w.finished.Load()
		all.Failed += w.failed.Load()
		all.DeadLettered += w.deadLettered.Load()
		errs = errors.Join(errs, err)
		return nil
	})
	if errors.Is(err, ErrClosed) || errs == nil && ctx.Err() == nil {
		return all, err
	}
	return all, errs
}
