package redisidem

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// workers process the keys of one flow name in one Run or Sweep.
type workers struct {
	completer *Completer
	flow      *Flow // the newest of its name
	queue     *fairQueue
	wg        sync.WaitGroup
	scanning  atomic.Bool // whether a scan of Run is under way

	mu    sync.Mutex
	known map[string]bool // prefixes of the shards in which the last scan left keys; a hint

	due, finished, failed, deadLettered atomic.Int64
}

// job is a key that is due, with the place where its record is.
type job struct {
	flow           *Flow // the newest of its name
	prefix, member string
	handed         string // the score that the due index gave it when it was handed out

	hiddenUntil time.Time // about when the due index shows it to other completers again

	done, hung bool // of the fairQueue
}

// startWorkers starts the workers. They take no more keys after ctx has ended. Stages run under
// work.
func (c *Completer) startWorkers(ctx, work context.Context, f *Flow) *workers {
	w := &workers{completer: c, flow: f, queue: newFairQueue(&c.cfg)}
	stop := context.AfterFunc(ctx, w.queue.end)
	w.wg.Go(func() {
		defer stop()
		for j, ok := w.queue.take(); ok; j, ok = w.queue.take() {
			w.wg.Go(func() { // the observer may end its goroutine with runtime.Goexit
				defer w.queue.done(j)
				w.do(work, j)
			})
		}
	})
	return w
}

// stop lets the workers finish the keys that they have, and waits for them.
func (w *workers) stop() {
	w.queue.finish()
	w.wg.Wait()
}

// do resumes one key and counts the result.
func (w *workers) do(ctx context.Context, j *job) {
	s := w.completer.service
	id, ok := protocol.IdentityIn(j.prefix, j.member)
	if !ok {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: the due index has a member that is not a key", slog.String("member", j.member))
		return
	}
	key, err := (*Key)(nil), errGoexit
	defer func() { w.count(ctx, id, key, err) }()
	leave, admitted := w.admit(ctx, j)
	if !admitted {
		err = errPutOff
		return
	}
	defer leave()
	key, err = w.completer.resume(ctx, id, j, func(hangs bool) { w.queue.setHung(j, hangs) })
}

// count counts the result for one key, and logs a failure.
func (w *workers) count(ctx context.Context, id identity, key *Key, err error) {
	switch {
	case errors.Is(err, errDeadLettered):
		w.deadLettered.Add(1)
	case err == nil:
		if key != nil && key.ownAnswer && key.Finished() {
			w.finished.Add(1)
		}
	case errors.Is(err, ErrLocked), errors.Is(err, ErrNotFound), errors.Is(err, errNotOurs),
		errors.Is(err, errPutOff):
		// A worker has the key or had it meanwhile, its retention is over, its flow is paused, or
		// the record is another one.
	default:
		w.failed.Add(1)
		w.completer.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: key not carried on", attrKey(id), attrErr(err))
	}
}
