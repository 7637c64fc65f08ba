//go:build unix

package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/history"
	"github.com/redisidem/redisidem/test/internal/workload"
)

// round is the work of some workers on a set of keys, and the checks afterwards.
type round struct {
	t      *testing.T
	server *redistest.Server
	client *redis.Client
	ledger child.Ledger
	pen    child.Pen
	seed   uint64
	began  time.Time
	most   int // as in orders
}

func newRound(t *testing.T, server *redistest.Server, seed uint64) *round {
	t.Helper()
	r := &round{t: t, server: server, client: dial(server.Addr(), observer), ledger: child.NewLedger(t), seed: seed, began: time.Now()}
	var err error
	if r.pen, err = r.ledger.Open(); err != nil {
		t.Fatal(err)
	}
	return r
}

// start starts a worker and waits until it is ready.
func (r *round) start(o orders) (*child.Process, error) {
	o.addr, o.seed, o.began, o.most = r.server.Addr(), r.seed, r.began, r.most
	p, err := child.Start(r.t, "worker", r.ledger, o.variable())
	if err == nil {
		err = p.Await("ready", patience)
	}
	return p, err
}

// kill starts many workers, a few at a time, and kills them.
func (r *round) kill(many int) {
	r.t.Helper()
	type fate struct {
		orders
		pause time.Duration
	}
	// The fates are drawn here, since a source of random numbers is not safe for concurrent use.
	random := rand.New(rand.NewPCG(r.seed, 1))
	fates := make(chan fate, many)
	for i := range many {
		f := fate{orders: orders{number: i, spacing: 12 * time.Millisecond}, pause: time.Duration(random.Int64N(int64(120 * time.Millisecond)))}
		if i%2 == 0 {
			f.death = 1 + random.IntN(100)
		}
		fates <- f
	}
	close(fates)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for f := range fates {
				p, err := r.start(f.orders)
				switch {
				case err != nil && f.death == 0:
					r.t.Error(err)
					return
				case f.death > 0:
					_ = p.Wait(patience)
				default:
					time.Sleep(f.pause)
				}
				p.Kill()
				if !p.Killed() {
					r.t.Errorf("seed %d: worker %d ended by itself", r.seed, f.number)
					return
				}
			}
		})
	}
	wg.Wait()
}

// worker is the name of the worker of that number.
func (o orders) worker() string { return fmt.Sprint("w", o.number) }

// tally is the result of a round.
type tally struct {
	history.Count
	keys      int
	completed int64 // keys that a completer finished after the workers were gone
	resumed   int   // keys that were finished by hand afterwards
	retried   int   // commits that were not the first attempt of their stage
	byHand    int   // keys that an operator finished
}

func (a *tally) add(b tally) {
	a.Count = a.Plus(b.Count)
	a.keys += b.keys
	a.completed += b.completed
	a.resumed += b.resumed
	a.retried += b.retried
	a.byHand += b.byHand
}

// settle checks the stored state when all workers are gone. It waits for their leases, finishes
// their keys, and compares the workers' reports with the stored state. It leaves the server empty.
func (r *round) settle() (sum tally) {
	r.t.Helper()
	ctx := context.Background()
	r.leases(ctx)
	r.expiries(ctx)
	client := dial(r.server.Addr(), "last")
	last := newWorker("last", client, r.pen, 0)
	swept, err := last.Completer(last.svc).Sweep(ctx)
	if err != nil {
		r.t.Error(err)
	}
	sum.completed = swept.Finished
	records, resumed := r.finish(last)
	sum.keys, sum.resumed = len(records), resumed
	if err := errors.Join(last.svc.Close(ctx), client.Close()); err != nil {
		r.t.Error(err)
	}
	r.expiries(ctx)
	r.leases(ctx)

	recorder, counted := r.read(), workload.Counters(ctx, r.t, r.client)
	var wrong []history.Violation
	for _, key := range records {
		record := workload.RecordOf(key)
		byHand := 0 // which have no effects
		for _, commit := range record.Journal {
			switch {
			case commit.Attempt > 1:
				sum.retried++
			case commit.Attempt == 0:
				byHand++
			}
		}
		sum.byHand += byHand
		wrong = append(wrong, recorder.Check(record)...)
		if n := counted[record.Key]; workload.Counted(record.Key) && n != len(record.Journal)-byHand {
			wrong = append(wrong, history.Violation{
				Rule: history.WrongEffects, Key: record.Key, Text: fmt.Sprintf("%d effects of %d commits", n, len(record.Journal)-byHand),
			})
		}
		recorder.Forget(record.Key)
	}
	if n := recorder.Keys(); n > 0 {
		r.t.Errorf("seed %d: the workers reported %d keys that have no record", r.seed, n)
	}
	r.report(wrong)
	sum.Count = recorder.Count()
	for _, end := range []error{r.pen.Close(), r.client.FlushDB(ctx).Err(), r.client.Close(), os.Remove(r.ledger.Path())} {
		if end != nil {
			r.t.Error(end)
		}
	}
	return sum
}

// observer is the name of the connections that the checks use.
const observer = "observer"

// leases waits until the server has handled the requests of dead workers. It then checks that their
// locks are gone within a lease.
func (r *round) leases(ctx context.Context) {
	r.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		clients, err := r.client.ClientList(ctx).Result()
		if err == nil && strings.Count(clients, "\n") == strings.Count(clients, " name="+observer+" ") {
			break
		}
		if time.Since(began) > patience {
			r.t.Fatalf("there are still clients: %v\n%s", err, clients)
		}
	}
	began := time.Now()
	held := r.locks(ctx)
	for key, left := range held {
		if left > lease || left < 0 {
			r.t.Errorf("seed %d: %s has %v left, more than a lease", r.seed, key, left)
		}
	}
	time.Sleep(time.Until(began.Add(lease + 20*time.Millisecond)))
	for key, left := range r.locks(ctx) {
		r.t.Errorf("seed %d: %s is there %v after the last worker died, and has %v left; it had %v then",
			r.seed, key, time.Since(began), left, held[key])
	}
}

// locks returns the locks and their TTLs.
func (r *round) locks(ctx context.Context) map[string]time.Duration {
	r.t.Helper()
	held := make(map[string]time.Duration)
	for name, left := range r.expire(ctx, "*:lock") {
		if left != -2 { // -2: expired in between
			held[name] = left
		}
	}
	return held
}

// expiries checks that every key has a TTL.
func (r *round) expiries(ctx context.Context) {
	r.t.Helper()
	for name, left := range r.expire(ctx, "*") {
		if left == -1 {
			r.t.Errorf("seed %d: %s has no TTL", r.seed, name)
		}
	}
}

// expire returns the Redis keys that match pattern, with their TTLs.
func (r *round) expire(ctx context.Context, pattern string) map[string]time.Duration {
	r.t.Helper()
	left := make(map[string]time.Duration)
	for cursor := uint64(0); ; {
		names, next, err := r.client.Scan(ctx, cursor, pattern, 1000).Result()
		if err != nil {
			r.t.Fatal(err)
		}
		pipe := r.client.Pipeline()
		for _, name := range names {
			pipe.PTTL(ctx, name)
		}
		replies, err := pipe.Exec(ctx)
		if err != nil && len(names) > 0 {
			r.t.Fatal(err)
		}
		for i, name := range names {
			left[name] = replies[i].(*redis.DurationCmd).Val()
		}
		if cursor = next; cursor == 0 {
			return left
		}
	}
}

// finish finishes every key. It returns all keys and the number of keys that were unfinished
// before.
func (r *round) finish(w *worker) (keys []*redisidem.Key, resumed int) {
	r.t.Helper()
	ctx := context.Background()
	var mu sync.Mutex
	values := make(chan string)
	var wg sync.WaitGroup
	for range 2 * goroutines {
		wg.Go(func() {
			for v := range values {
				key, err := w.sc.Retrieve(ctx, v)
				late := err == nil && !key.Finished()
				for began := time.Now(); err == nil && !key.Finished() && time.Since(began) < patience; {
					_ = w.Do(ctx, w.sc.Wait(lease), workload.Use{Key: v})
					key, err = w.sc.Retrieve(ctx, v)
				}
				mu.Lock()
				if err != nil {
					r.t.Errorf("seed %d: key %s: %v", r.seed, v, err)
				} else {
					keys = append(keys, key)
				}
				if late {
					resumed++
				}
				mu.Unlock()
			}
		})
	}
	for name := range r.expire(ctx, "*") {
		// A lock and the due index are not hashes, so they do not have this field.
		if request, err := r.client.HGet(ctx, name, "request").Result(); err == nil {
			values <- history.KeyOf(request)
		}
	}
	close(values)
	wg.Wait()
	return keys, resumed
}

// read reads the ledger.
func (r *round) read() *history.Recorder {
	r.t.Helper()
	recorder := history.NewRecorder()
	r.ledger.Each(r.t, func(line string) {
		e, err := history.Parse(line)
		if err != nil {
			r.t.Fatal(err)
		}
		recorder.Add(e)
	})
	return recorder
}

// report fails the test for each violation, with all ledger lines of the first keys.
func (r *round) report(wrong []history.Violation) {
	r.t.Helper()
	shown := make(map[string]bool)
	for _, v := range wrong {
		r.t.Errorf("seed %d: %v", r.seed, v)
		if shown[v.Key] || len(shown) == 3 {
			continue
		}
		shown[v.Key] = true
		r.ledger.Each(r.t, func(line string) {
			if e, err := history.Parse(line); err == nil && e.Key == v.Key {
				r.t.Log(line)
			}
		})
	}
}
