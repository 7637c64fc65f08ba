//go:build unix

package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
)

// A worker gets its orders by these environment variables.
const (
	addrVariable   = "REDISIDEM_TEST_ADDR"
	numberVariable = "REDISIDEM_TEST_NUMBER"
	keysVariable   = "REDISIDEM_TEST_KEYS"  // how many keys it begins
	dwellVariable  = "REDISIDEM_TEST_DWELL" // the longest that its callbacks take
)

const (
	lease      = 400 * time.Millisecond
	goroutines = 6 // in each worker
)

// stages are the recovery points of keys with several stages, in their order.
var stages = []string{redisidem.Started, "reserved", "charged"}

var request = redisidem.Request{Method: "POST", Path: "/orders"}

func dial(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
}

func scope(client *redis.Client) *redisidem.Scope { return service(client).Scope("crash") }

func service(client *redis.Client) *redisidem.Service {
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease, Timeout: time.Second})
	if err != nil {
		panic(err)
	}
	return svc
}

// worker is what asks for keys. What it is told, it writes into the ledger, a line each:
//
//	run KEY REVISION FENCE PID   its callback begins
//	slept KEY FENCE CANCELLED    its callback has slept through the lease; whether its context was cancelled
//	ack KEY REVISION FENCE       it was told that its commit is stored
//	got KEY BODY                 it was told the key's answer
//	bad KEY ...                  it was told what should not be
type worker struct {
	sc    *redisidem.Scope
	write func(format string, args ...any)
	ready func()
	dwell time.Duration // the longest that a callback takes
}

// work is the role of a child: it asks for its own keys, and for those of workers before it, until it is killed.
func work() {
	number, err := strconv.Atoi(os.Getenv(numberVariable))
	keys, err1 := strconv.Atoi(os.Getenv(keysVariable))
	dwell, err2 := time.ParseDuration(os.Getenv(dwellVariable))
	if err := errors.Join(err, err1, err2); err != nil {
		panic(err)
	}
	svc := service(dial(os.Getenv(addrVariable)))
	w := &worker{
		sc: svc.Scope("crash"), write: child.Own().Write, dwell: dwell,
		ready: sync.OnceFunc(func() { child.Tell("ready") }),
	}
	completer, err := redisidem.NewCompleter(svc, w.flow())
	if err != nil {
		panic(err)
	}
	completer.Interval = lease
	go func() { _ = completer.Run(context.Background()) }()

	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for {
				// Fresh keys first; then, for as long as the worker lives, those of all workers.
				if n := int(next.Add(1)) - 1; n < keys {
					_, _ = w.ask(value(number, n)) // the ledger has the error
					continue
				}
				_, _ = w.ask(value(max(0, number-rand.N(3*workersAround)), rand.N(keys)))
			}
		})
	}
	wg.Wait()
}

// workersAround is how many workers back a worker looks for keys that others began.
const workersAround = 8

// value names a key: the one of that number that the worker of that number begins.
func value(worker, n int) string { return fmt.Sprintf("%d-%d", worker, n) }

// ask asks for a key in the way that is its own.
func (w *worker) ask(value string) (key *redisidem.Key, err error) {
	w.ready()
	switch value[len(value)-1] % 4 {
	case 0:
		key, err = w.sc.Do(context.Background(), value, request, w.only(value))
	case 1:
		key, err = w.sc.Wait(lease).Do(context.Background(), value, request, w.only(value))
	case 2:
		key, err = w.stagewise(value)
	case 3:
		key, err = w.sc.RunRequest(context.Background(), value, request, w.flow())
	}
	switch {
	case err == nil && key.Finished():
		w.write("got %s %s", value, key.Response.Body)
	case err == nil, errors.Is(err, redisidem.ErrLocked), errors.Is(err, redisidem.ErrUnavailable),
		errors.Is(err, redisidem.ErrCommitUnknown), errors.Is(err, redisidem.ErrLeaseLost):
		time.Sleep(rand.N(2 * time.Millisecond))
	default:
		w.write("bad %s %v", value, err)
	}
	return key, err
}

// only is the callback of a key with a single stage. Its answer is as no other run's.
func (w *worker) only(string) redisidem.StageFunc {
	return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		w.toil(ctx, st)
		return redisidem.Finish(redisidem.JSON(200, answer(st))), nil
	}
}

// stagewise works off a key stage by stage, each with a lease of its own.
func (w *worker) stagewise(value string) (*redisidem.Key, error) {
	key, err := w.sc.InitializeRequest(context.Background(), value, request)
	for err == nil && !key.Answered() {
		var ran *redisidem.Stage
		key, err = w.sc.WorkStage(context.Background(), key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran = st
			w.toil(ctx, st)
			return outcome(st), nil
		})
		if ran != nil && err == nil {
			w.write("ack %s %d %d", value, ran.Key().Revision, ran.Fence())
		}
	}
	return key, err
}

// flow makes the flow of a key that completers carry on.
func (w *worker) flow() *redisidem.Flow {
	cfg := redisidem.FlowConfig{Name: "crash", Version: 1, RecoverAfter: lease, MaxAttempts: 1 << 20}
	for _, point := range stages {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				w.toil(ctx, st)
				return outcome(st), nil
			},
		})
	}
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		panic(err)
	}
	return flow
}

// outcome is what a stage of several comes to.
func outcome(st *redisidem.Stage) redisidem.Outcome {
	if n := int(st.Key().Revision) + 1; n < len(stages) {
		return redisidem.Advance(stages[n])
	}
	return redisidem.Finish(redisidem.JSON(201, answer(st)))
}

func answer(st *redisidem.Stage) string { return fmt.Sprintf("%d/%d", st.Fence(), os.Getpid()) }

// toil is what every callback does. When it finds that it has slept through its lease, it says whether it was called off; it then
// returns as if nothing had happened, as careless callbacks do.
func (w *worker) toil(ctx context.Context, st *redisidem.Stage) {
	w.write("run %s %d %d %d", st.Key().Value, st.Key().Revision, st.Fence(), os.Getpid())
	if w.dwell == 0 {
		return
	}
	began := time.Now()
	time.Sleep(rand.N(w.dwell))
	if time.Since(began) < lease {
		return
	}
	cancelled := false
	select {
	case <-ctx.Done():
		cancelled = errors.Is(context.Cause(ctx), redisidem.ErrLeaseLost)
	case <-time.After(lease):
	}
	w.write("slept %s %d %t", st.Key().Value, st.Fence(), cancelled)
}
