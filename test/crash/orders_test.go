//go:build unix

package crash

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// orders are the instructions of a worker's process.
type orders struct {
	addr    string
	number  int           // of the worker
	seed    uint64        // of its choices
	began   time.Time     // when the round did: all workers go through the keys together
	spacing time.Duration // after which they leave one key behind and come to a new one
	death   int           // the command at which it kills itself: before an even one is sent, after an odd one; 0: it does not
	stopped bool          // it is going to be stopped now and then
}

const ordersVariable = "REDISIDEM_TEST_ORDERS"

func (o orders) variable() string {
	return fmt.Sprintf("%s=%s %d %d %d %d %d %t", ordersVariable, o.addr, o.number, o.seed, o.began.UnixMilli(), o.spacing, o.death, o.stopped)
}

func ownOrders() (o orders) {
	var began int64
	if _, err := fmt.Sscan(os.Getenv(ordersVariable), &o.addr, &o.number, &o.seed, &began, &o.spacing, &o.death, &o.stopped); err != nil {
		panic(err)
	}
	o.began = time.UnixMilli(began)
	return o
}

// death is a hook of the client that kills the process on the border of a command: either nothing
// of it was sent, or its reply has come and was not read.
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
		die()
	}
	err := send()
	if due {
		die()
	}
	return err
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
