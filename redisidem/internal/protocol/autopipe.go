package protocol

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// pipelined sends the commands of concurrent callers in common pipelines, through the deferred
// interface of go-redis's auto-pipeliner. That part of go-redis is experimental, so only this file
// uses it.
//
// It runs in full-duplex mode: it reads replies while it writes further commands. The other mode
// waits for a batch's replies before it sends the next batch, and expects as many commands again as
// it has just answered. With a lock, a claim and a commit, one caller's lifecycle took 1.4 ms there
// and 0.18 ms here, and 256 callers were slower, too.
//
// A queued command cannot be withdrawn. When ctx ends, send returns and the command still runs,
// perhaps after its caller has continued. The scripts are made for this: a late command finds its
// token spent or its revision taken.
//
// The pipeline keeps one connection as long as it works, even if the server behind it is not the
// master any more. This happens when a name is switched to another server. After READONLY, commands
// therefore go without the pipeline for a while. The client's pool drops such connections and finds
// the new master, and so does the pipeline when it needs a new connection.
type pipelined struct {
	pipe  *redis.AutoPipeliner
	plain plain
	until atomic.Int64 // in nanoseconds since began: plain carries the commands until then
	began time.Time
}

// detour is how long commands go without the pipeline after READONLY.
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

// flushDelay is how long the writer waits for more commands when many are under way. With few it
// does not wait.
const flushDelay = 100 * time.Microsecond

// pipeliner returns the options that the client was made with, or this package's.
func pipeliner(own *redis.AutoPipelineOptions) *redis.AutoPipelineOptions {
	if own != nil {
		return own
	}
	opt := redis.DefaultAutoPipelineOptions()
	opt.FullDuplex = true
	opt.MaxFlushDelay = flushDelay
	return opt
}

func (p *pipelined) send(ctx context.Context, cmd redis.Cmder) error {
	if p.isOnDetour() {
		return p.plain.send(ctx, cmd)
	}
	if err := wait(ctx, p.pipe.Submit(ctx, cmd)); err != nil {
		return err
	}
	return p.checked(errorOf(cmd))
}

func (p *pipelined) sendTogether(ctx context.Context, cmds []redis.Cmder) error {
	if p.isOnDetour() {
		return p.plain.sendTogether(ctx, cmds)
	}
	futures := make([]redis.AutoFuture, 0, len(cmds))
	for _, cmd := range cmds {
		futures = append(futures, p.pipe.Submit(ctx, cmd))
	}
	// Replies come in order, so waiting for the last one first is the only wait.
	for _, f := range slices.Backward(futures) {
		if err := wait(ctx, f); err != nil {
			return err
		}
	}
	return p.checked(firstError(cmds))
}

// wait waits for a command's result. If ctx has ended, the batch may still write results, so no
// command may be read.
func wait(ctx context.Context, f redis.AutoFuture) error {
	_ = f.WaitContext(ctx)
	return ctx.Err()
}

func (p *pipelined) isOnDetour() bool {
	return time.Since(p.began) < time.Duration(p.until.Load())
}

// checked begins a detour if the server has refused a write because it is not the master.
func (p *pipelined) checked(err error) error {
	if redis.IsReadOnlyError(err) {
		p.until.Store(int64(time.Since(p.began) + detour))
	}
	return err
}
