package protocol

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// pipelined sends the commands of concurrent callers in common pipelines, through the deferred face of go-redis's
// auto-pipeliner. That part of go-redis is experimental, so all that touches it is in this file.
//
// It runs in full-duplex mode: replies are read while further commands are written. The other mode, which waits for a
// batch's replies before it sends the next, expects as many commands again as it has just answered. A caller's obtain and
// claim are two commands and its commit is one, so that mode waits for company that never comes: a lone caller's
// lifecycle took 1.4 ms there and 0.18 ms here, and 256 callers were slower, too.
//
// A queued command can no longer be called back: when ctx ends, send returns and the command runs all the same, maybe
// after its caller has gone on. The scripts are made for it: a late command finds its token spent or its revision taken.
//
// One connection is kept for as long as it works, also when the server behind it is no master any more, as when a name was
// switched to another one. A server that answers READONLY is therefore asked without the pipeline for a while: the client's
// pool drops such connections and finds the new master, and so does the pipeline when it needs a new one.
type pipelined struct {
	pipe  *redis.AutoPipeliner
	plain plain
	until atomic.Int64 // nanoseconds since began: up to then plain carries the commands
	began time.Time
}

// detour is how long the pipeline is left alone after READONLY.
const detour = time.Second

func newPipelined(client redis.UniversalClient) (*pipelined, error) {
	var pipe *redis.AutoPipeliner
	var err error
	switch client := client.(type) {
	case *redis.Client:
		pipe, err = client.AsyncAutoPipelineWithOptions(pipeliner(client.Options().AutoPipelineOptions))
	case *redis.ClusterClient:
		pipe, err = client.AsyncAutoPipelineWithOptions(pipeliner(client.Options().AutoPipelineOptions))
	default:
		return nil, ErrNoPipeline
	}
	if err != nil {
		return nil, err
	}
	return &pipelined{pipe: pipe, plain: plain{client}, began: time.Now()}, nil
}

// flushDelay is how long the writer waits for more commands when many are under way already. With few it waits for none.
const flushDelay = 100 * time.Microsecond

// pipeliner returns the options of the auto-pipeliner: those that the client was made with, or ours.
func pipeliner(own *redis.AutoPipelineOptions) *redis.AutoPipelineOptions {
	if own != nil {
		return own
	}
	opt := redis.DefaultAutoPipelineOptions()
	opt.FullDuplex = true
	opt.MaxFlushDelay = flushDelay
	return opt
}

func (p *pipelined) send(ctx context.Context, cmds []redis.Cmder) error {
	if time.Since(p.began) < time.Duration(p.until.Load()) {
		return p.plain.send(ctx, cmds)
	}
	var space [2]redis.AutoFuture
	futures := space[:0]
	for _, cmd := range cmds {
		futures = append(futures, p.pipe.Submit(ctx, cmd))
	}
	// The last reply is the last to come: whoever waits for it first waits once.
	for _, f := range slices.Backward(futures) {
		// Once ctx has ended the batch may still be writing results: no command may be read any more.
		_ = f.WaitContext(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	err := firstError(cmds)
	if redis.IsReadOnlyError(err) {
		p.until.Store(int64(time.Since(p.began) + detour))
	}
	return err
}
