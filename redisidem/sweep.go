package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// workers are the workers for one flow name in one Run or Sweep.
type workers struct {
	completer *Completer
	flow      *Flow // the newest of its name
	jobs      chan job
	wg        sync.WaitGroup
	stopped   sync.Once

	due, finished, failed, deadLettered atomic.Int64
}

// job is a key that is due.
type job struct {
	flow           *Flow // the newest of its name
	prefix, member string
	handed         string // when it is due again, as the due index says it, unless another worker has the lease meanwhile
}

// startWorkers starts the workers. They take no more keys when ctx has ended; stages run under
// work.
func (c *Completer) startWorkers(ctx, work context.Context, f *Flow) *workers {
	w := &workers{completer: c, flow: f, jobs: make(chan job)}
	for range c.cfg.Concurrency {
		w.wg.Go(func() {
			for j := range w.jobs {
				if ctx.Err() != nil {
					continue // it comes back by itself
				}
				// In a goroutine of its own, which a stage may end.
				var one sync.WaitGroup
				one.Go(func() { w.do(work, j) })
				one.Wait()
			}
		})
	}
	return w
}

// stop waits for the workers to end.
func (w *workers) stop() {
	w.stopped.Do(func() { close(w.jobs) })
	w.wg.Wait()
}

// shardScan is a shard to be asked.
type shardScan struct {
	prefix string
	until  string // keys that became due later are left to the next look; "" when the shard was not asked yet
}

// scan asks all shards for what is due, and returns when the workers have taken the last of it. It
// goes in rounds, each of which takes one batch from a shard, so that a shard with many keys lets
// all others have their turn in between; and what became due since a shard was asked first waits
// for the next look, so that a look ends. A shard that cannot be asked does not stop the scan of
// the others. But a server that did not answer for one shard is not asked for its others, so that
// it costs the time of one request.
func (w *workers) scan(ctx context.Context) error {
	// Two completers that begin together do not meet in each shard.
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

// round takes one batch from each shard, and returns those that have more.
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

// scanShard takes one batch of keys that are due from a shard. It reports whether there may be
// more.
func (w *workers) scanShard(ctx context.Context, v *shardScan) (bool, error) {
	s := w.completer.service
	// What is handed out is out of the other completers' sight until a worker has had time to claim
	// it.
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
			return false, nil // they come back by themselves
		}
	}
	return len(members) == batchSize, nil
}

// do carries a key on.
func (w *workers) do(ctx context.Context, j job) {
	s := w.completer.service
	id, ok := protocol.IdentityIn(j.prefix, j.member)
	if !ok {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: due index holds what is no key", slog.String("member", j.member))
		return
	}
	key, err := (*Key)(nil), errGoexit
	defer func() { w.count(ctx, id, key, err) }()
	key, err = w.completer.resume(ctx, id, j)
}

// count counts the result for a key.
func (w *workers) count(ctx context.Context, id identity, key *Key, err error) {
	switch {
	case errors.Is(err, errDeadLettered):
		w.deadLettered.Add(1)
	case err == nil:
		if key != nil && key.own && key.Finished() {
			w.finished.Add(1)
		}
	case errors.Is(err, ErrLocked), errors.Is(err, ErrNotFound), errors.Is(err, errNotOurs),
		errors.Is(err, errPutOff):
		// A worker has it or had it meanwhile, or its retention is over, or it is another record of
		// that name.
	default:
		w.failed.Add(1)
		w.completer.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: key not carried on", attrKey(id), attrErr(err))
	}
}
