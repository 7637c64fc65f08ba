//go:build unix

package crash

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/test/internal/child"
)

// orders are the instructions of a worker's process.
type orders struct {
	addr    string
	number  int           // of the worker
	seed    uint64        // of its choices
	began   time.Time     // when the round began: all workers go through the keys together
	spacing time.Duration // how long workers use one key before they move to a new one
	death   int           // the command at which the worker kills itself: even, before it is sent; odd, after its reply; 0, never
	stopped bool          // whether the worker will be stopped now and then
	most    int           // how often completers run a stage before they give a key up; 0 for no limit
}

const ordersVariable = "REDISIDEM_TEST_ORDERS"

func (o orders) variable() string {
	return fmt.Sprintf("%s=%s %d %d %d %d %d %t %d", ordersVariable, o.addr, o.number, o.seed, o.began.UnixMilli(), o.spacing, o.death, o.stopped, o.most)
}

func ownOrders() (o orders) {
	var began int64
	if _, err := fmt.Sscan(os.Getenv(ordersVariable), &o.addr, &o.number, &o.seed, &began, &o.spacing, &o.death, &o.stopped, &o.most); err != nil {
		panic(err)
	}
	o.began = time.UnixMilli(began)
	return o
}

// death is a client hook that kills the process at a command. Either the command was not sent at
// all, or its reply has arrived and was not read.
type death struct {
	at   int64
	sent atomic.Int64
}

func (d *death) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *death) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return d.around(func() error { return next(ctx, cmd) })
	}
}

func (d *death) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return d.around(func() error { return next(ctx, cmds) })
	}
}

func (d *death) around(send func() error) error {
	due := d.sent.Add(1) == d.at
	if due && d.at%2 == 0 {
		child.Die()
	}
	err := send()
	if due {
		child.Die()
	}
	return err
}
