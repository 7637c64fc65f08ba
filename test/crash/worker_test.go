//go:build unix

package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/workload"
)

const (
	goroutines   = 4  // in each worker
	window       = 96 // how many keys all workers use at a time
	lease        = 400 * time.Millisecond
	recoverAfter = 50 * time.Millisecond
	patience     = time.Minute
)

// worker is a workload with a service of its own.
type worker struct {
	*workload.Worker
	svc     *redisidem.Service
	sc      *redisidem.Scope
	stopped bool // whether it is stopped now and then; it then checks whether that lasted longer than a lease
}

// newWorker makes a worker with a name. It caches copies of finished records in cache bytes.
func newWorker(name string, client *redis.Client, pen child.Pen, cache int64) *worker {
	w := &worker{Worker: workload.New(name, recoverAfter, func(e history.Event) { pen.Write("%s", e) })}
	w.Stay = w.stay
	cfg := redisidem.Config{
		Lease: lease, Timeout: 5 * time.Second, Retention: time.Hour, Owner: name, CacheBytes: cache, Observer: w,
	}
	var err error
	if w.svc, err = redisidem.New(client, &cfg); err != nil {
		panic(err)
	}
	w.sc = w.svc.Scope("crash")
	return w
}

// dial makes a client whose connections have a name.
func dial(addr, name string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, ClientName: name, ContextTimeoutEnabled: true, DisableIdentity: true, MaxRetries: -1,
	})
}

// work is the main function of a worker's process, until it is killed.
func work() {
	o := ownOrders()
	client := dial(o.addr, o.worker())
	if o.death > 0 {
		client.AddHook(&death{at: int64(o.death)})
	}
	w := newWorker(o.worker(), client, child.Own(), int64(o.number%2)<<20)
	w.stopped = o.stopped
	if o.most > 0 {
		w.MaxAttempts = o.most
	}
	child.Tell("ready")
	if o.number%3 == 0 {
		go w.complete()
	}
	for i := range goroutines {
		go func() {
			r := rand.New(rand.NewPCG(o.seed, uint64(o.number)<<8|uint64(i)))
			for {
				w.use(r, int(time.Since(o.began)/o.spacing)+r.IntN(window))
			}
		}()
	}
	time.Sleep(child.Lifetime) // the process is killed before
	os.Exit(1)
}

// use does one of the possible operations on the key with number n.
func (w *worker) use(r *rand.Rand, n int) {
	sc := w.sc
	if r.IntN(3) == 0 {
		sc = sc.Wait(time.Duration(r.Int64N(int64(2 * lease))))
	}
	_ = w.Do(context.Background(), sc, workload.Use{
		Key: workload.Value(n), Dwell: w.dwell(r), Fails: r.IntN(12) == 0, Other: r.IntN(2) == 0,
	})
}

// complete lets a completer sweep without a pause.
func (w *worker) complete() {
	for {
		_, _ = w.Completer(w.svc).Sweep(context.Background())
		time.Sleep(recoverAfter)
	}
}

// dwell draws how long a callback takes. Most take an instant, and some take so long that the lease
// is renewed. A worker that will be stopped spends most of its time in a callback.
func (w *worker) dwell(r *rand.Rand) time.Duration {
	switch n := r.IntN(40); {
	case n == 0:
		return lease + time.Duration(r.Int64N(int64(lease)))
	case n < 4 || w.stopped && n < 20:
		return time.Duration(r.Int64N(int64(lease / 2)))
	}
	return time.Duration(r.Int64N(int64(6 * time.Millisecond)))
}

// stay waits for the duration of a callback. After a stop that lasted longer than the lease, the
// worker waits a moment for the cancellation.
func (w *worker) stay(ctx context.Context, dwell time.Duration, e history.Event) {
	const tick = 5 * time.Millisecond
	began := time.Now()
	looked := began
	stood := false
	look := func() {
		stood = stood || time.Since(looked) > lease
		looked = time.Now()
	}
	for ; ctx.Err() == nil && time.Since(began) < dwell; look() {
		time.Sleep(min(tick, dwell))
	}
	if !w.stopped {
		return
	}
	w.Tell(e.As(history.Left))
	look()
	if stood {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second): // the machine may be busy
		}
	}
}
