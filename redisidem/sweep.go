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

// workers process the keys of one flow name in one Run or Sweep.
type workers struct {
	completer *Completer
	flow      *Flow // the newest of its name
	jobs      chan job
	wg        sync.WaitGroup
	stopped   sync.Once

	due, finished, failed, deadLettered atomic.Int64
}

// job is a key that is due, with the place where its record is.
type job struct {
	flow           *Flow // the newest of its name
	prefix, member string
	handed         string // the score that the due index gave it when it was handed out
}

// startWorkers starts the workers. They take no more keys after ctx has ended. Stages run under
// work.
func (c *Completer) startWorkers(ctx, work context.Context, f *Flow) *workers {
	w := &workers{completer: c, flow: f, jobs: make(chan job)}
	for range c.cfg.Concurrency {
		w.wg.Go(func() {
			for j := range w.jobs {
				if ctx.Err() != nil {
					continue // the key becomes due again
				}
				// A stage may end its goroutine with runtime.Goexit.
				var one sync.WaitGroup
				one.Go(func() { w.do(work, j) })
				one.Wait()
			}
		})
	}
	return w
}

// stop lets the workers finish the keys that they have, and waits for them.
func (w *workers) stop() {
	w.stopped.Do(func() { close(w.jobs) })
	w.wg.Wait()
}

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

// do resumes one key and counts the result.
func (w *workers) do(ctx context.Context, j job) {
	s := w.completer.service
	id, ok := protocol.IdentityIn(j.prefix, j.member)
	if !ok {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: the due index has a member that is not a key", slog.String("member", j.member))
		return
	}
	key, err := (*Key)(nil), errGoexit
	defer func() { w.count(ctx, id, key, err) }()
	key, err = w.completer.resume(ctx, id, j)
}

// count counts the result for one key, and logs a failure.
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
		// A worker has the key or had it meanwhile, its retention is over, or the record is another
		// one.
	default:
		w.failed.Add(1)
		w.completer.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: key not carried on", attrKey(id), attrErr(err))
	}
}
