//go:build unix

package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
)

// orders are the instructions of a worker's process: to begin work on some keys, and to stay in it
// until the process is killed or interrupted.
type orders struct {
	addr        string
	flow        bool          // work by the flow, and not in one stage
	lease       time.Duration // of each key
	first, many int           // numbers of the keys
}

const ordersVariable = "REDISIDEM_TEST_ORDERS"

func (o orders) variable() string {
	return fmt.Sprintf("%s=%s %t %d %d %d", ordersVariable, o.addr, o.flow, o.lease, o.first, o.many)
}

// work is the main function of a worker's process. An interrupt ends its callbacks with an error,
// as it does in programs that pass on the context of their process.
func work() {
	var o orders
	if _, err := fmt.Sscan(os.Getenv(ordersVariable), &o.addr, &o.flow, &o.lease, &o.first, &o.many); err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	svc, err := redisidem.OpenUnchecked("redis://"+o.addr, &redisidem.Config{
		Timeout: patience, Lease: o.lease, AutoPipeline: true, Owner: fmt.Sprint("worker-", os.Getpid()),
	})
	if err != nil {
		panic(err)
	}
	var begun, ended sync.WaitGroup
	begun.Add(o.many)
	stay := func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		begun.Done()
		<-ctx.Done()
		return redisidem.Outcome{}, errors.New("the worker was interrupted")
	}
	flow := checkout(stay)
	for i := o.first; i < o.first+o.many; i++ {
		ended.Go(func() {
			sc, value := svc.Scope(tenant(i)), order(i)
			if o.flow {
				_, _ = sc.DoFlow(ctx, value, request, flow)
			} else {
				_, _ = sc.Do(ctx, value, request, stay)
			}
		})
	}
	begun.Wait()
	child.Tell("working")
	ended.Wait()
	_ = svc.Close(context.Background())
	stop()
}
