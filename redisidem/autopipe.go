package redisidem

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// pipelined sends the commands of concurrent callers in common pipelines, through go-redis's deferred auto-pipeliner.
// That part of go-redis is experimental, so all that touches it is in this file.
//
// A queued command can no longer be called back: when ctx ends, send returns and the command runs all the same, maybe
// after its caller has gone on. go-redis also repeats a whole batch after a broken connection. The scripts are made for
// both: a late or repeated command finds its token spent or its revision taken.
type pipelined struct{ pipe *redis.AutoPipeliner }

func newPipelined(client redis.UniversalClient) (*pipelined, error) {
	deferred, ok := client.(interface {
		AsyncAutoPipeline() (*redis.AutoPipeliner, error)
	})
	if !ok {
		return nil, invalid("Config.AutoPipeline", "needs a client that can do it, not a %T", client)
	}
	pipe, err := deferred.AsyncAutoPipeline()
	if err != nil {
		return nil, err
	}
	return &pipelined{pipe: pipe}, nil
}

func (p *pipelined) send(ctx context.Context, cmds []redis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var space [2]redis.AutoFuture
	futures := space[:0]
	for _, cmd := range cmds {
		futures = append(futures, p.pipe.Submit(ctx, cmd))
	}
	for _, f := range futures {
		// Once ctx has ended the batch may still be writing results: no command may be read any more.
		_ = f.WaitContext(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return firstError(cmds)
}
